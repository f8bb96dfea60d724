package main

import (
	"crypto/tls"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// What is wrong with the files is said before anything is opened, and by which flag.
func TestBadCertificates(t *testing.T) {
	cert, key, _ := testCertificate(t, time.Now().Add(time.Hour))
	_, other, _ := testCertificate(t, time.Now().Add(time.Hour))
	none := filepath.Join(t.TempDir(), "none.pem")
	for _, tt := range []struct {
		args []string
		code int
		says []string
	}{
		{[]string{"-tls-cert", cert}, 2, []string{"-tls-cert", "-tls-key", "both"}},
		{[]string{"-tls-key", key}, 2, []string{"-tls-cert", "-tls-key", "both"}},
		{[]string{"-tls-cert", none, "-tls-key", key}, 1, []string{"-tls-cert", none}},
		{[]string{"-tls-cert", cert, "-tls-key", none}, 1, []string{"-tls-key", none}},
		{[]string{"-tls-cert", cert, "-tls-key", other}, 1, []string{cert, other, "match"}},
		{[]string{"-tls-cert", key, "-tls-key", cert}, 1, []string{cert, key, "PEM"}},
		{[]string{"-tls-cert", write(t, "garbage"), "-tls-key", key}, 1, []string{key, "PEM"}},
		{[]string{"-config", write(t, "tls_cert = \""+cert+"\"\n")}, 2, []string{"-tls-key"}},
		{[]string{"-config", write(t, "tls_cert = \""+cert+"\"\ntls_key = \""+other+"\"\n")}, 1, []string{"match"}},
	} {
		log := newLogBuffer()
		code := run(t.Context(), t.Context(), append([]string{"-addr", "127.0.0.1:0"}, tt.args...), noEnv, io.Discard, log)
		said := log.String()
		if code != tt.code || slices.ContainsFunc(tt.says, func(s string) bool { return !strings.Contains(said, s) }) {
			t.Errorf("%q: exit code %d, %q; want %d, %q", tt.args, code, said, tt.code, tt.says)
		}
	}
}

// What is odd about the files is told, and so is what they have.
func TestCertificateWarnings(t *testing.T) {
	for _, tt := range []struct {
		name  string
		until time.Duration
		mode  os.FileMode
		want  string // "" for no warning
	}{
		{"good", time.Hour, 0o600, ""},
		{"for a group", time.Hour, 0o640, ""},
		{"expired", -time.Hour, 0o600, "expired"},
		{"not valid yet", 48 * time.Hour, 0o600, "not valid yet"},
		{"for all to read", time.Hour, 0o644, "chmod"},
		{"for a group to write", time.Hour, 0o660, "chmod"},
	} {
		cert, key, _ := testCertificate(t, time.Now().Add(tt.until))
		if err := os.Chmod(key, tt.mode); err != nil {
			t.Fatal(err)
		}
		core, logs := observer.New(zapcore.InfoLevel)
		if _, err := loadCertificate(cert, key, zap.New(core)); err != nil {
			t.Fatal(err)
		}
		if about := logs.FilterLevelExact(zapcore.InfoLevel).All(); len(about) != 1 || about[0].ContextMap()["expires"] == nil {
			t.Errorf("%s: the log says %v", tt.name, about)
		}
		warnings := logs.FilterLevelExact(zapcore.WarnLevel).All()
		if len(warnings) > 1 || len(warnings) == 1 != (tt.want != "") || len(warnings) == 1 && !strings.Contains(warnings[0].Message, tt.want) {
			t.Errorf("%s: the warnings are %v, want %q", tt.name, warnings, tt.want)
		}
	}
}

// With TLS, SIGHUP has the certificate read again, for new connections; one that is no good changes nothing. Nobody
// notices who is there.
func TestReload(t *testing.T) {
	cert, key, trust := testCertificate(t, time.Now().Add(time.Hour))
	cmd := command(t, "-open", "-addr", "127.0.0.1:0", "-tls-cert", cert, "-tls-key", key)
	log := newLogBuffer()
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	addr := announced(t, out)
	serial := func(trust *tls.Config) string {
		conn, err := tls.Dial("tcp", addr, trust)
		if err != nil {
			return err.Error()
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	first := serial(trust)
	viewer := dialWSS(t, addr, "/", trust, nil)

	newCert, newKey, newTrust := testCertificate(t, time.Now().Add(time.Hour))
	for from, to := range map[string]string{newCert: cert, newKey: key} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	if got := serial(trust); got != first {
		t.Errorf("before the signal: %s, want %s", got, first)
	}
	cmd.Process.Signal(syscall.SIGHUP)
	until(t, "the new certificate is there", func() bool { return !strings.Contains(serial(newTrust), "unknown authority") })
	second := serial(newTrust)

	if err := os.WriteFile(cert, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd.Process.Signal(syscall.SIGHUP)
	log.expect(t, "stays as it was")
	if got := serial(newTrust); got != second {
		t.Errorf("after a bad file: %s, want %s", got, second)
	}
	viewer.send("stop")
	viewer.expect("ack", func(m message) bool { return m.Op == "ack" })
	cmd.Process.Signal(syscall.SIGTERM)
	viewer.expectClose(ws.StatusGoingAway)
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v; the log:\n%s", err, log)
	}
}
