package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// linkTime is how long a roverd may take for each step: to be reached, to say welcome, to answer.
const linkTime = 5 * time.Second

// link is a connection to a roverd as a client has it: over WebSocket, or with lines over TCP.
type link struct {
	at      *url.URL
	conn    net.Conn
	in      io.Reader
	lines   *bufio.Reader // in, where it speaks lines; else nil
	welcome reply
}

// reply is any message of a roverd.
type reply struct {
	text []byte // as it came

	Op      string
	ID      json.RawMessage
	Role    string
	TTL     int64 `json:"ttl_ms"`
	Applied bool
	Message string
}

// parseTarget reads the address of a roverd.
func parseTarget(addr string) (*url.URL, error) {
	if !strings.Contains(addr, "://") {
		addr = "ws://" + addr
	}
	at, err := url.Parse(addr)
	if err != nil {
		return nil, usage("-addr: %w", err)
	}
	switch at.Scheme {
	case "http":
		at.Scheme = "ws"
	case "https":
		at.Scheme = "wss"
	}
	switch {
	case at.Scheme != "ws" && at.Scheme != "wss" && at.Scheme != "tcp" || at.Hostname() == "":
		return nil, usage("-addr %s: want an address as in ws://localhost:9900/, https://car.example.org/ or tcp://localhost:9901", addr)
	case at.Query().Has("token") || at.User != nil:
		return nil, usage("-addr: everyone on this computer can read a command line, and a secret in it: put the token into ROVERD_TOKEN or a -token-file")
	case at.Scheme == "tcp" && (at.Port() == "" || at.Path != "" && at.Path != "/"):
		return nil, usage("-addr %s: want host and port of roverd's -line, as in tcp://localhost:9901", addr)
	}
	return at, nil
}

// openLink connects to a roverd, and shows it the token if there is one. roots are nil for those of the system.
func openLink(ctx context.Context, at *url.URL, token string, roots *x509.CertPool) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, linkTime)
	defer cancel()
	l := &link{at: at}
	err := l.dial(ctx, token, roots)
	if err == nil {
		if err = l.greet(token); err != nil {
			l.conn.Close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", at, err)
	}
	return l, nil
}

func (l *link) dial(ctx context.Context, token string, roots *x509.CertPool) (err error) {
	if l.at.Scheme == "tcp" {
		if l.conn, err = new(net.Dialer).DialContext(ctx, "tcp", l.at.Host); err != nil {
			return unreachable(err)
		}
		l.lines = bufio.NewReader(l.conn)
		l.in = l.lines
		return nil
	}
	var refusal string // as the server puts it
	d := ws.Dialer{TLSConfig: &tls.Config{RootCAs: roots}, OnStatusError: func(_ int, _ []byte, response io.Reader) {
		if r, err := http.ReadResponse(bufio.NewReader(response), nil); err == nil {
			body, _ := io.ReadAll(io.LimitReader(r.Body, 1000))
			refusal = r.Status + ": " + string(bytes.TrimSpace(body))
		}
	}}
	if token != "" {
		d.Header = ws.HandshakeHeaderHTTP{"Authorization": {"Bearer " + token}}
	}
	conn, early, _, err := d.Dial(ctx, l.at.String())
	if refusal != "" {
		return errors.New(refusal)
	}
	if err != nil {
		return unreachable(err)
	}
	l.conn, l.in = conn, conn
	if early != nil { // came behind the response
		l.in = early
	}
	return nil
}

// unreachable adds the remedy to what kept a connection from coming about.
func unreachable(err error) error {
	var certificate *tls.CertificateVerificationError
	var noTLS tls.RecordHeaderError
	switch {
	case errors.As(err, &certificate):
		return fmt.Errorf("%w: name the file with the certificate that it goes back to with -cacert", err)
	case errors.As(err, &noTLS):
		return fmt.Errorf("%w: it speaks no TLS; try ws:// or http://", err)
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("no connection within %s: is it switched on, and in the same network? -addr names another", linkTime)
	}
	return fmt.Errorf("%w: does roverd run there? -addr names another address", err)
}

// close says goodbye and waits, for a moment, until the server has, too: to hang up on what it still says would reset the
// connection, which looks like trouble there.
func (l *link) close() {
	defer l.conn.Close()
	l.conn.SetDeadline(time.Now().Add(goodbyeTime))
	if tcp, plain := l.conn.(*net.TCPConn); plain && l.lines != nil {
		tcp.CloseWrite()
	} else {
		l.conn.Write(ws.MustCompileFrame(ws.MaskFrame(ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusNormalClosure, "")))))
	}
	io.Copy(io.Discard, l.in)
}

// greet takes the welcome, and the role that a token gives.
func (l *link) greet(token string) (err error) {
	if l.welcome, err = l.await(isAnswer("")); err != nil {
		return err
	}
	if l.welcome.Op != "welcome" {
		return errors.New(cmp.Or(l.welcome.Message, "it does not say welcome: is it a roverd?"))
	}
	if l.lines == nil || token == "" || l.welcome.Role == control.String() {
		return nil
	}
	if err = l.send("auth " + token); err != nil {
		return err
	}
	answer, err := l.await(isAnswer(""))
	if err == nil && answer.Op == "error" {
		err = errors.New(answer.Message)
	}
	return err
}

// send sends a message.
func (l *link) send(text string) error {
	p := []byte(text + "\n")
	if l.lines == nil {
		p = ws.MustCompileFrame(ws.MaskFrame(ws.NewTextFrame([]byte(text))))
	}
	l.conn.SetWriteDeadline(time.Now().Add(linkTime))
	_, err := l.conn.Write(p)
	return broken(err)
}

// receive returns the next message, and answers pings.
func (l *link) receive() (r reply, err error) {
	if l.lines != nil {
		r.text, err = l.lines.ReadBytes('\n')
		r.text = bytes.TrimRight(r.text, "\r\n")
	} else {
		r.text, err = wsutil.ReadServerText(struct {
			io.Reader
			io.Writer
		}{l.in, l.conn})
	}
	if err != nil {
		return r, broken(err)
	}
	if err := json.Unmarshal(r.text, &r); err != nil {
		return r, fmt.Errorf("it says %s, which is no message of a roverd", quote(r.text))
	}
	return r, nil
}

// await returns the next message that matches, which may take no longer than linkTime.
func (l *link) await(match func(reply) bool) (reply, error) {
	l.conn.SetReadDeadline(time.Now().Add(linkTime))
	defer l.conn.SetReadDeadline(time.Time{})
	for {
		if r, err := l.receive(); err != nil || match(r) {
			return r, err
		}
	}
}

var errNoAnswer = fmt.Errorf("no answer within %s: is it a roverd, and does it still run?", linkTime)

// broken says what is behind an error of a connection.
func broken(err error) error {
	var closed wsutil.ClosedError
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errNoAnswer
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("it closed the connection")
	case errors.As(err, &closed):
		return fmt.Errorf("it closed the connection: %s", cmp.Or(closed.Reason, fmt.Sprint("code ", int(closed.Code))))
	}
	return err
}
