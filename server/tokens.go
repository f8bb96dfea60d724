package main

import (
	"crypto/rand"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// tokens are the secrets that say who may drive and who may watch. None of them is ever a flag: whoever is on the computer
// can read the command lines of all.
type tokens struct {
	Control     string `toml:"control"`
	ControlFile string `toml:"control_file"`
	View        string `toml:"view"`
	ViewFile    string `toml:"view_file"`

	made bool // Control is not from the operator
}

// leastToken is how long a token must be, so that nobody guesses it who may try one a second.
const leastToken = 8

// resolve reads what is in files and in the environment, and makes the control token if there is none.
func (t *tokens) resolve(open bool, getenv func(string) string) error {
	for _, kind := range []struct {
		name, file string
		token      *string
	}{{"control", t.ControlFile, &t.Control}, {"view", t.ViewFile, &t.View}} {
		where := "tokens." + kind.name
		if v := getenv("ROVERD_" + strings.ToUpper(kind.name) + "_TOKEN"); v != "" {
			where, *kind.token = "ROVERD_"+strings.ToUpper(kind.name)+"_TOKEN", v
		}
		if kind.file != "" {
			token, err := readToken("-"+kind.name+"-token-file", kind.file)
			if err != nil {
				return err
			}
			where, *kind.token = kind.file, token
		}
		if *kind.token != "" && (len(*kind.token) < leastToken || !isToken68(*kind.token)) {
			return fmt.Errorf("%s: a token has at least %d of the characters A-Z a-z 0-9 - . _ ~ + / =, as `openssl rand -hex 16` makes it", where, leastToken)
		}
	}
	switch {
	case open && (t.Control != "" || t.View != ""):
		return fmt.Errorf("-open lets anyone drive, so a token makes no sense: leave one of them away")
	case t.Control != "" && t.Control == t.View:
		return fmt.Errorf("the control token and the view token are the same: who may watch could drive")
	case !open && t.Control == "":
		t.Control, t.made = rand.Text(), true
	}
	return nil
}

// readToken returns the token in a file, which a flag names.
func readToken(flag, file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("%s: %w", flag, err)
	}
	if isForAll(file) {
		return "", fmt.Errorf("%s %s: everyone on this computer can read it: chmod o-r %s", flag, file, file)
	}
	token := strings.TrimSpace(string(text))
	if token == "" {
		return "", fmt.Errorf("%s %s: it is empty", flag, file)
	}
	return token, nil
}

// isForAll tells whether everyone on this computer can read a file, unless it is a pipe.
func isForAll(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.Mode()&(fs.ModeType|0o004) == 0o004
}

// query is what shows a token that was made to a browser.
func (t *tokens) query() string {
	if !t.made {
		return ""
	}
	return "?token=" + t.Control
}
