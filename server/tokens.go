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
			text, err := os.ReadFile(kind.file)
			if err != nil {
				return fmt.Errorf("-%s-token-file: %w", kind.name, err)
			}
			if info, err := os.Stat(kind.file); err == nil && info.Mode()&(fs.ModeType|0o004) == 0o004 {
				return fmt.Errorf("-%s-token-file %s: everyone on this computer can read it: chmod o-r %s", kind.name, kind.file, kind.file)
			}
			where, *kind.token = kind.file, strings.TrimSpace(string(text))
			if *kind.token == "" {
				return fmt.Errorf("-%s-token-file %s: it is empty", kind.name, kind.file)
			}
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

// query is what shows a token that was made to a browser.
func (t *tokens) query() string {
	if !t.made {
		return ""
	}
	return "?token=" + t.Control
}
