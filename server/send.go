package main

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"roverd/hardware"
)

// errRefused is the end of a command that the server has refused, which has been printed.
var errRefused = errors.New("the command was refused")

// runSend says something to a roverd, and prints what it answers.
func runSend(ctx context.Context, args []string, getenv func(string) string, in io.Reader, stdout, stderr io.Writer) error {
	var addr, tokenFile, rootsFile string
	var prompt bool
	flags := flag.NewFlagSet("roverd send", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&addr, "addr", "ws://localhost:9900/", "")
	flags.StringVar(&tokenFile, "token-file", "", "")
	flags.StringVar(&rootsFile, "cacert", "", "")
	flags.BoolVar(&prompt, "i", false, "")
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	for _, word := range flags.Args() { // flag stops at the first word
		name, _, _ := strings.Cut(strings.TrimLeft(word, "-"), "=")
		if strings.HasPrefix(word, "-") && flags.Lookup(name) != nil {
			return usage("send: %s stands behind the command: flags go before it, as in `roverd send -addr ADDR stop`", word)
		}
	}
	text := strings.Join(flags.Args(), " ")
	switch {
	case prompt && text != "":
		return usage("send -i asks for commands: leave %q away, or -i", text)
	case !prompt && strings.TrimSpace(text) == "":
		return usage("send what? As in `roverd send stop`; with -i it asks")
	case !prompt && asksFor(text, opAuth):
		return usage("everyone on this computer can read a command line, and a secret in it: put the token into ROVERD_TOKEN or a -token-file")
	}
	if err := isSendable(text); err != nil {
		return usageError{err}
	}
	at, err := parseTarget(addr)
	if err != nil {
		return err
	}
	token := getenv("ROVERD_TOKEN")
	if tokenFile != "" {
		if token, err = readToken("-token-file", tokenFile); err != nil {
			return usageError{err}
		}
	}
	if token != "" && !isToken68(token) {
		return usage("ROVERD_TOKEN or -token-file: the token has other characters than A-Z a-z 0-9 - . _ ~ + / =")
	}
	var roots *x509.CertPool
	if rootsFile != "" {
		text, err := os.ReadFile(rootsFile)
		if err != nil {
			return usage("-cacert: %w", err)
		}
		if roots = x509.NewCertPool(); !roots.AppendCertsFromPEM(text) {
			return usage("-cacert %s: there is no certificate in it, which would begin with -----BEGIN CERTIFICATE-----", rootsFile)
		}
	}

	l, err := openLink(ctx, at, token, roots)
	if err != nil {
		return err
	}
	defer l.close()
	defer context.AfterFunc(ctx, func() { l.conn.Close() })()
	if prompt {
		err = converse(ctx, l, in, stdout, stderr)
	} else {
		err = sendOnce(ctx, l, text, stdout)
	}
	switch {
	case err == nil || err == errRefused:
		return err
	case ctx.Err() != nil:
		return errors.New("interrupted")
	}
	return fmt.Errorf("%s: %w", at, err)
}

// isSendable says what is wrong with what would be no message, or several.
func isSendable(text string) error {
	switch {
	case len(text) > maxMessage:
		return fmt.Errorf("the command has more than %d bytes", maxMessage)
	case !isText([]byte(text)):
		return fmt.Errorf("the command %s is not text: it must be UTF-8 without control characters", quote([]byte(text)))
	}
	return nil
}

// asksFor tells whether a command is of that kind. Others are for the server to judge.
func asksFor(text string, what op) bool {
	r, _ := parse([]byte(text), 1)
	return r.op == what
}

// isAnswer tells which messages answer a command, of those that a client gets.
func isAnswer(text string) func(reply) bool {
	return func(r reply) bool {
		switch r.Op {
		case "state":
			return asksFor(text, opState)
		case "claim":
			return false
		}
		return true
	}
}

// sendOnce sends a command, and stays while the car is driven by it: without its driver the car stops.
func sendOnce(ctx context.Context, l *link, text string, stdout io.Writer) error {
	if err := l.send(text); err != nil {
		return err
	}
	answer, err := l.await(isAnswer(text))
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s\n", answer.text)
	if answer.Op == "error" {
		return errRefused
	}
	if r, err := parse([]byte(text), 1); err == nil && r.op == opCar && r.car.Kind == hardware.Drive && answer.Applied {
		ttl := r.car.TTL
		if ttl == 0 {
			ttl = time.Duration(l.welcome.TTL) * time.Millisecond
		}
		select {
		case <-time.After(ttl):
		case <-ctx.Done():
		}
	}
	return nil
}

// A prompt shows that it is there more often than lineIdle, by a ping whose answer is not printed.
const (
	promptPing = lineIdle / 3
	promptID   = "9007199254740991" // the greatest
)

// converse sends what is typed, line by line, each when the last has been answered.
func converse(ctx context.Context, l *link, in io.Reader, stdout, stderr io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	var reading sync.WaitGroup
	defer func() {
		cancel()
		l.conn.SetReadDeadline(time.Now())
		reading.Wait()
	}()
	typed, replies, ended := make(chan string), make(chan reply), make(chan error, 1)
	go func() {
		defer close(typed)
		for lines := bufio.NewScanner(in); lines.Scan(); {
			select {
			case typed <- lines.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	reading.Go(func() {
		for {
			r, err := l.receive()
			if err != nil {
				ended <- err
				return
			}
			select {
			case replies <- r:
			case <-ctx.Done():
				return
			}
		}
	})
	ask := func() {
		if isTerminal(in) {
			fmt.Fprint(stdout, "> ")
		}
	}
	pings := time.NewTicker(promptPing)
	defer pings.Stop()
	late := time.NewTimer(0)
	late.Stop()
	asked := "" // what is to be answered
	for ask(); ; {
		next := typed
		if asked != "" {
			next = nil
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-ended:
			if ctx.Err() != nil {
				return nil
			}
			return err
		case <-late.C:
			return errNoAnswer
		case text, more := <-next:
			if !more {
				return nil
			}
			err := isSendable(text)
			if err != nil {
				fmt.Fprintln(stderr, "roverd:", err)
			}
			if err != nil || strings.TrimSpace(text) == "" {
				ask()
				continue
			}
			if err := l.send(text); err != nil {
				return err
			}
			asked = text
			late.Reset(linkTime)
		case r := <-replies:
			answers := asked != "" && isAnswer(asked)(r)
			if r.Op == "state" && !answers || string(r.ID) == promptID {
				continue
			}
			fmt.Fprintf(stdout, "%s\n", r.text)
			if answers {
				asked = ""
				late.Stop()
				ask()
			}
		case <-pings.C:
			if err := l.send(`{"op":"ping","id":` + promptID + `}`); err != nil {
				return err
			}
		}
	}
}
