package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"go.uber.org/zap"
)

const (
	driveToken = "drive-0123456789"
	watchToken = "watch-0123456789"
)

func TestRoles(t *testing.T) {
	for _, tt := range []struct {
		name    string
		access  *access
		nobody  role
		watcher role
		driver  role
	}{
		{"open", newAccess(true, "", "", "80"), control, control, control},
		{"a control token", newAccess(false, driveToken, "", "80"), view, view, control},
		{"both", newAccess(false, driveToken, watchToken, "80"), stranger, view, control},
	} {
		for shown, want := range map[credentials]role{
			{}:                                                 tt.nobody,
			{authorization: "Bearer " + driveToken}:            tt.driver,
			{authorization: "bearer  " + driveToken}:           tt.driver,
			{authorization: "Basic " + driveToken}:             tt.nobody,
			{cookie: "a=b; roverd_80=" + driveToken}:           tt.driver,
			{cookie: "roverd_81=" + driveToken + ";roverd_80"}: tt.nobody,
			{cookie: "roverd_80=wrong"}:                        tt.nobody, // of an older server
			{cookie: "roverd_80=wrong", authorization: "Bearer " + driveToken}: tt.driver,
			{token: driveToken}: tt.driver,
			{cookie: "roverd_80=" + driveToken, authorization: "Digest whatever"}: tt.driver,
		} {
			if got, err := tt.access.role(shown, time.Now()); got != want || err != nil {
				t.Errorf("%s: %+v is %v, %v; want %v", tt.name, shown, got, err, want)
			}
		}
		if tt.access.view == nil {
			continue
		}
		if got, err := tt.access.role(credentials{authorization: "Bearer " + watchToken}, time.Now()); got != tt.watcher || err != nil {
			t.Errorf("%s: the view token is %v, %v", tt.name, got, err)
		}
	}
}

// Guessing does not get faster than it should, not even with the right token among the guesses, and nobody else feels it.
func TestGuesses(t *testing.T) {
	a := newAccess(false, driveToken, "", "80")
	now := time.Now()
	from, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	looked := 0
	for range 10_000 {
		now = now.Add(time.Millisecond)
		if _, err := a.check("wrong-0123456789", from, now); err == errWrongToken {
			looked++
		}
	}
	if looked < 19 || looked > 21 {
		t.Errorf("%d guesses were looked at in ten seconds", looked)
	}
	if _, err := a.check(driveToken, from, now); err != errManyGuesses {
		t.Errorf("the right one among them: %v", err)
	}
	if got, err := a.check(driveToken, other, now); got != control || err != nil {
		t.Errorf("from elsewhere: %v, %v", got, err)
	}
	if got, err := a.check(driveToken, from, now.Add(5*time.Second)); got != control || err != nil {
		t.Errorf("after a rest: %v, %v", got, err)
	}
}

// Whose browser is made to guess still drives with its cookie, and cookies are no way to guess faster.
func TestGuessesByCookie(t *testing.T) {
	a := newAccess(false, driveToken, "", "80")
	now := time.Now()
	from := netip.MustParseAddr("192.0.2.1")
	good := credentials{cookie: "roverd_80=" + driveToken, from: from}
	for range 100 {
		a.check("wrong-0123456789", from, now)
	}
	if got, err := a.role(good, now); got != control || err != nil {
		t.Errorf("among guesses by token the cookie is %v, %v", got, err)
	}
	for range 100 {
		a.role(credentials{cookie: "roverd_80=wrong-0123456789", from: from}, now)
	}
	if got, err := a.role(good, now); got != view || err != nil {
		t.Errorf("among guesses by cookie it is %v, %v", got, err)
	}
	if got, err := a.check(driveToken, from, now.Add(5*time.Second)); got != control || err != nil {
		t.Errorf("the token, after a rest, is %v, %v", got, err)
	}
}

// A token of base64 may be written into an address as it is.
func TestTokenWithPlus(t *testing.T) {
	const token = "ab+/cd+efgh=="
	addr, _ := start(t, "-open=false", "-config", write(t, "tokens.control = \""+token+"\"\n"))
	for _, written := range []string{token, url.QueryEscape(token)} {
		if got := roleAt(t, addr, "/ws?token="+written, nil); got != "control" {
			t.Errorf("a WebSocket with %s: %s", written, got)
		}
		response, err := (&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).
			Get("http://" + addr + "/?token=" + written)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		c := response.Cookies()
		if response.StatusCode != http.StatusSeeOther || len(c) != 1 {
			t.Fatalf("the page with %s: %d", written, response.StatusCode)
		}
		if got := roleAt(t, addr, "/", http.Header{"Cookie": {c[0].Name + "=" + c[0].Value}}); got != "control" {
			t.Errorf("with its cookie: %s", got)
		}
	}
}

func TestTokens(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	env := func(vars ...string) func(string) string {
		return func(name string) string {
			for i := 0; i < len(vars); i += 2 {
				if vars[i] == name {
					return vars[i+1]
				}
			}
			return ""
		}
	}
	good := file("good", "  "+driveToken+"\n", 0o600)
	for _, tt := range []struct {
		name          string
		args          []string
		env           func(string) string
		config        string
		control, view string
		err           string
	}{
		{"config", nil, noEnv, "[tokens]\ncontrol = \"" + driveToken + "\"\nview = \"" + watchToken + "\"\n", driveToken, watchToken, ""},
		{"environment over config", nil, env("ROVERD_CONTROL_TOKEN", driveToken), "tokens.control = \"something-else\"\n", driveToken, "", ""},
		{"file over all", []string{"-control-token-file", good}, env("ROVERD_CONTROL_TOKEN", "something-else"), "", driveToken, "", ""},
		{"file in the config", nil, noEnv, "tokens.view_file = \"" + good + "\"\ntokens.control = \"something-else\"\n", "something-else", driveToken, ""},
		{"file in the environment", nil, env("ROVERD_VIEW_TOKEN_FILE", good, "ROVERD_CONTROL_TOKEN", "something-else"), "", "something-else", driveToken, ""},
		{"open", []string{"-open"}, noEnv, "", "", "", ""},
		{"open with a token", []string{"-open"}, noEnv, "tokens.control = \"" + driveToken + "\"\n", "", "", "-open"},
		{"no such file", []string{"-view-token-file", "/nowhere"}, noEnv, "", "", "", "-view-token-file: open /nowhere"},
		{"a file for all", []string{"-control-token-file", file("loose", driveToken, 0o644)}, noEnv, "", "", "", "chmod o-r"},
		{"an empty file", []string{"-control-token-file", file("empty", "\n", 0o600)}, noEnv, "", "", "", "is empty"},
		{"too short", nil, env("ROVERD_CONTROL_TOKEN", "1234567"), "", "", "", "ROVERD_CONTROL_TOKEN: a token has at least 8"},
		{"a space", nil, noEnv, "tokens.view = \"0123 456789\"\n", "", "", "tokens.view: a token has"},
		{"the same", nil, noEnv, "tokens.view = \"" + driveToken + "\"\ntokens.control = \"" + driveToken + "\"\n", "", "", "the same"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := loadServe(append(tt.args, "-config", write(t, tt.config)), tt.env)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("the error is %v", err)
				}
				if err != nil && strings.Contains(err.Error(), "123456") {
					t.Errorf("the error shows the secret: %v", err)
				}
				return
			}
			if err != nil || c.Tokens.Control != tt.control || c.Tokens.View != tt.view || c.Tokens.made {
				t.Errorf("the tokens are %+v, %v", c.Tokens, err)
			}
		})
	}
	loose := file("car.toml", "tokens.view = \""+watchToken+"\"\n", 0o644)
	if _, err := loadServe([]string{"-config", loose}, noEnv); err == nil || !strings.Contains(err.Error(), "chmod o-r "+loose) {
		t.Errorf("a token in a config that everyone can read: %v", err)
	}
	first, _ := loadServe(nil, noEnv)
	second, _ := loadServe(nil, noEnv)
	if !first.Tokens.made || len(first.Tokens.Control) < 20 || first.Tokens.Control == second.Tokens.Control || !isToken68(first.Tokens.Control) {
		t.Errorf("the tokens made are %+v and %+v", first.Tokens, second.Tokens)
	}
}

// A browser that opens the address it was given keeps the token in a cookie that no page can read, and drives with it.
func TestLogIn(t *testing.T) {
	addr, _ := start(t, "-open=false", "-config", write(t, "tokens.control = \""+driveToken+"\"\n"))
	jar, _ := cookiejar.New(nil)
	browser := http.Client{Jar: jar}
	response, err := browser.Get("http://" + addr + "/?token=" + driveToken + "&camera=1")
	if err != nil {
		t.Fatal(err)
	}
	page, _ := io.ReadAll(response.Body)
	response.Body.Close()
	if got := response.Request.URL.RequestURI(); response.StatusCode != 200 || got != "/?camera=1" || !strings.Contains(string(page), "app.js") {
		t.Errorf("the browser is at %s: %d, %.100s", got, response.StatusCode, page)
	}
	// The address tells nobody else, and no script but the page's own runs.
	policy := response.Header.Get("Content-Security-Policy")
	if got := response.Header.Get("Referrer-Policy"); got != "no-referrer" || !strings.HasPrefix(policy, "default-src 'self';") || strings.Contains(policy, "unsafe") {
		t.Errorf("the policies are %q and %q", got, policy)
	}
	cookies := jar.Cookies(response.Request.URL)
	if len(cookies) != 1 || cookies[0].Value != driveToken {
		t.Fatalf("the cookies are %v", cookies)
	}
	noFollow := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err = noFollow.Get("http://" + addr + "/?token=" + driveToken)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if c := response.Header.Get("Set-Cookie"); !strings.Contains(c, "HttpOnly") || !strings.Contains(c, "SameSite=Strict") || !strings.Contains(c, "Path=/") {
		t.Errorf("the cookie is %q", c)
	}
	for header, role := range map[string]string{
		"Cookie: " + cookies[0].String():      "control",
		"Authorization: Bearer " + driveToken: "control",
		"X: y":                                "view",
	} {
		name, value, _ := strings.Cut(header, ": ")
		if got := roleAt(t, addr, "/", http.Header{name: {value}}); got != role {
			t.Errorf("%s: the role is %s, want %s", header, got, role)
		}
	}
	if got := roleAt(t, addr, "/ws?token="+driveToken, nil); got != "control" {
		t.Errorf("the token in the address: the role is %s", got)
	}
}

// roleAt returns the role that a WebSocket gets.
func roleAt(t *testing.T, addr, path string, h http.Header) string {
	t.Helper()
	d := ws.Dialer{Header: ws.HandshakeHeaderHTTP(h)}
	conn, early, _, err := d.Dial(t.Context(), "ws://"+addr+path)
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	return newClient(t, conn, early).expect("welcome", func(m message) bool { return m.Op == "welcome" }).Role
}

// Who has no token, where one is wanted to watch, sees nothing but the page that asks for it; who guesses is slowed down.
func TestStrangers(t *testing.T) {
	addr, log := start(t, "-open=false", "-config", write(t, "[tokens]\ncontrol = \""+driveToken+"\"\nview = \""+watchToken+"\"\n"))
	get := func(path string, h http.Header) (int, http.Header, string) {
		t.Helper()
		r, _ := http.NewRequest("GET", "http://"+addr+path, nil)
		if h != nil {
			r.Header = h
		}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		return response.StatusCode, response.Header, string(body)
	}
	bearer := func(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }
	for _, tt := range []struct {
		path   string
		header http.Header
		status int
		says   string
	}{
		{"/", nil, 401, `name="token"`},
		{"/state", nil, 401, "token"},
		{"/drivelog", nil, 401, "token"},
		{"/metrics", nil, 401, "token"},
		{"/style.css", nil, 200, ""},
		{"/index.html", nil, 404, ""}, // or it would be a way around
		{"//", nil, 401, `name="token"`},
		{"/%2f", nil, 401, "token"},
		{"/state/", nil, 404, ""},
		{"/./state", nil, 401, "token"},
		{"/healthz", nil, 200, ""},
		{"/", bearer(watchToken), 200, "app.js"},
		{"/state", bearer(watchToken), 200, `"op":"state"`},
		{"/drivelog", bearer(watchToken), 401, "token"},
		{"/metrics", bearer(watchToken), 200, "roverd_viewers 0\n"},
		{"/drivelog", bearer(driveToken), 200, "["},
		{"/?token=wrong", nil, 401, "wrong"},
	} {
		status, h, body := get(tt.path, tt.header)
		if status != tt.status || !strings.Contains(body, tt.says) || status == 401 && h.Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%s: %d %v %.200s", tt.path, status, h, body)
		}
	}
	if got := roleAt(t, addr, "/", nil); !strings.Contains(got, "401") {
		t.Errorf("a WebSocket without a token: %s", got)
	}
	for i := range 20 {
		status, h, _ := get("/state", bearer(fmt.Sprint("wrong-", i)))
		if want := 401; status != want && (i < 5 || status != 429 || h.Get("Retry-After") == "") {
			t.Errorf("guess %d: %d", i, status)
		}
	}
	if status, _, _ := get("/state", bearer(driveToken)); status != 429 {
		t.Errorf("the right one among the guesses: %d", status)
	}
	if got := roleAt(t, addr, "/", bearer("wrong")); !strings.Contains(got, "429") {
		t.Errorf("a WebSocket with a guess: %s", got)
	}
	log.expect(t, "login_refused")
	if strings.Contains(log.String(), driveToken) || strings.Contains(log.String(), "wrong-1") {
		t.Errorf("the log has a token:\n%s", log)
	}
}

// The first line names an address with which one drives at once; without its token one watches.
func TestFreshToken(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	in, out := io.Pipe()
	code := make(chan int, 1)
	log := newLogBuffer()
	go func() { code <- run(ctx, t.Context(), []string{"-addr", "127.0.0.1:0"}, noEnv, out, log) }()
	defer func() {
		stop()
		if c := <-code; c != 0 {
			t.Errorf("exit code %d; the log:\n%s", c, log)
		}
		out.Close()
	}()
	addr, query := announcedWith(t, in)
	watcher, hello := dial(t, addr)
	if hello.Role != "view" {
		t.Errorf("the role is %s", hello.Role)
	}
	for _, word := range []string{"up", "stop", "claim", `{"op":"drive","left":1,"right":1}`} {
		watcher.send(word)
		watcher.expectError(notAllowed)
	}
	if got := roleAt(t, addr, "/"+query, nil); got != "control" {
		t.Errorf("with %s: %s", query, got)
	}
	if strings.Contains(log.String(), query) {
		t.Errorf("the log has the token:\n%s", log)
	}
}

// What the program says at its start of who may do what is so.
func TestAnnounce(t *testing.T) {
	for _, tt := range []struct {
		config, want, not string
	}{
		{"", "who has no token only watches", ""},
		{"tokens.view = \"" + watchToken + "\"\n", "?token=", "who has no token only watches"},
		{"tokens.control = \"" + driveToken + "\"\n", "others watch", "?token=d"},
		{"[tokens]\ncontrol = \"" + driveToken + "\"\nview = \"" + watchToken + "\"\n", "drives or watches needs", "others watch"},
		{"open = true\n", "anyone who reaches it", "token"},
	} {
		cfg, err := loadServe([]string{"-config", write(t, tt.config)}, noEnv)
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		s := &server{cfg: cfg, log: zap.NewNop()}
		s.announce(netip.MustParseAddrPort("127.0.0.1:80"), &out)
		if !strings.Contains(out.String(), tt.want) || tt.not != "" && strings.Contains(out.String(), tt.not) {
			t.Errorf("with %q it says:\n%s", tt.config, &out)
		}
	}
}

// A request that is malformed does not bring its token into the log, nor into the answer.
func TestTokensOfBadRequests(t *testing.T) {
	for _, request := range []string{
		"GET /?token=" + driveToken + "\" HTTP/1.1\r\nHost: car\r\n\r\n",
		"GET /?token=" + driveToken + "\r\n\r\n",
		"GET ?token=" + driveToken + " HTTP/1.1\r\nHost: car\r\n\r\n",
		"GET ws:?token=" + driveToken + " HTTP/1.1\r\nHost: car\r\n\r\n",
		"GET wss://car?token=" + driveToken + " HTTP/1.1\r\nHost: car\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: car\r\nAuthorization : Bearer " + driveToken + "\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: car\r\nAuthorization Bearer " + driveToken + "\r\n\r\n",
	} {
		addr, log := start(t)
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, request)
		answer, _ := io.ReadAll(conn)
		conn.Close()
		log.expect(t, "turned a request away")
		if strings.Contains(log.String()+string(answer), driveToken) {
			t.Errorf("%q is answered with %q; the log:\n%s", request, answer, log)
		}
	}
}

// auth gives a client that has connected without a token its role; a wrong one is refused.
func TestAuth(t *testing.T) {
	addr, _ := start(t, "-open=false", "-config", write(t, "tokens.control = \""+driveToken+"\"\n"))
	c, _ := dial(t, addr)
	c.send(`{"op":"auth","token":"wrong-012345","id":1}`)
	if m := c.expectError(badToken); m.ID != "1" {
		t.Errorf("the refusal is %+v", m)
	}
	c.send("up")
	c.expectError(notAllowed)
	c.send(`{"op":"auth","token":"` + driveToken + `","id":2}`)
	if m := c.expect("ack", isAck); m.ID != "2" || m.Role != "control" || !m.Applied {
		t.Errorf("the answer is %+v", m)
	}
	c.send("up")
	c.expect("ack", isAck)

	open, _ := start(t)
	c, _ = dial(t, open)
	c.send("auth " + driveToken) // which nobody needs there, and nobody minds
	if m := c.expect("an answer", func(m message) bool { return m.Op != "state" }); m.Op != "ack" || m.Role != "control" {
		t.Errorf("where anyone may drive the answer is %+v", m)
	}
	header := ws.HandshakeHeaderHTTP{"Origin": {"http://evil.example"}}
	conn, early, _, err := (&ws.Dialer{Host: "evil.example", Header: header}).Dial(t.Context(), "ws://"+open+"/")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c = newClient(t, conn, early)
	c.send("auth " + driveToken)
	if m := c.expect("ack", isAck); m.Role != "view" {
		t.Errorf("a page that may only watch becomes %s", m.Role)
	}
}

func isAck(m message) bool { return m.Op == "ack" }

// Pages of other origins, and names that are not the operator's, are refused or may only watch.
func TestSites(t *testing.T) {
	listed, _ := start(t, "-hosts", "car.example", "-origins", "https://panel.example")
	open, _ := start(t)
	for _, tt := range []struct {
		addr, host, origin, want string
	}{
		{open, "localhost:9900", "http://localhost:9900", "control"},
		{open, "LocalHost", "http://localhost", "control"},
		{open, "192.0.2.1:9900", "http://192.0.2.1:9900", "control"},
		{open, "[2001:db8::1]:9900", "http://[2001:db8::1]:9900", "control"},
		{open, "raspberrypi", "http://raspberrypi", "control"},
		{open, "car.local:9900", "http://car.local:9900", "control"},
		{open, "evil.example:9900", "http://evil.example:9900", "view"}, // its name may have been made to lead here
		{open, "localhost.evil.example", "http://localhost.evil.example", "view"},
		{open, "127.0.0.1.evil.example", "http://127.0.0.1.evil.example", "view"},
		{open, "evil.example", "", "control"}, // no browser
		{open, "localhost", "http://evil.example", "403"},
		{listed, "car.example:9900", "http://car.example:9900", "control"},
		{listed, "localhost:9900", "https://panel.example", "control"},
		{listed, "localhost:9900", "https://panel.example.evil.example", "403"},
		{listed, "localhost:9900", "http://panel.example", "403"},
		{listed, "other.example", "", "421"},
		{listed, "127.0.0.1", "", "control"},
	} {
		h := http.Header{}
		if tt.origin != "" {
			h.Set("Origin", tt.origin)
		}
		d := ws.Dialer{Host: tt.host, Header: ws.HandshakeHeaderHTTP(h)}
		got := ""
		conn, early, _, err := d.Dial(t.Context(), "ws://"+tt.addr+"/")
		if err != nil {
			got = err.Error()
		} else {
			got = newClient(t, conn, early).expect("welcome", func(m message) bool { return m.Op == "welcome" }).Role
			conn.Close()
		}
		if !strings.Contains(got, tt.want) {
			t.Errorf("%s from %s: %s, want %s", tt.host, tt.origin, got, tt.want)
		}
	}
	r, _ := http.NewRequest("GET", "http://"+listed+"/state", nil)
	r.Host = "other.example"
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if response.Body.Close(); response.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("HTTP by another name: %d", response.StatusCode)
	}
}

// What happened is kept for those with control: who drove, who stopped the car and why, who was refused.
func TestDrivelog(t *testing.T) {
	addr, _ := start(t, "-open=false", "-config", write(t, "tokens.control = \""+driveToken+"\"\n"))
	c, hello := dial(t, addr)
	c.send("auth wrong-0123456")
	c.expectError(badToken)
	c.send("auth wrong-0123457")
	c.expectError(badToken)
	c.send("auth " + driveToken)
	c.send("up")
	c.expectState("the time to live is over", func(m message) bool { return m.Cause == "ttl" })
	c.send("estop")
	c.expectState("stopped", func(m message) bool { return m.Estop })
	c.conn.Close()
	watcher, _ := dial(t, addr)
	watcher.expectState("free", func(m message) bool { return m.Driver == "" })
	var got []string
	for _, e := range drivelog(t, addr) {
		if e.At.IsZero() {
			t.Errorf("%+v has no time", e)
		}
		got = append(got, strings.TrimSpace(e.What+" "+e.Who))
		if e.What == "login_refused" && e.Times != 2 {
			t.Errorf("two guesses are %+v", e)
		}
	}
	id := fmt.Sprint(hello.ID)
	for _, want := range []string{"login_refused", "driver " + id, "stopped", "estop " + id} {
		if !strings.Contains(strings.Join(got, ", ")+",", want+",") {
			t.Errorf("the log lacks %q: %v", want, got)
		}
	}
}

// drivelog returns what a server remembers, whose control token is driveToken.
func drivelog(t *testing.T, addr string) (events []event) {
	t.Helper()
	r, _ := http.NewRequest("GET", "http://"+addr+"/drivelog", nil)
	r.Header.Set("Authorization", "Bearer "+driveToken)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&events); err != nil {
		t.Fatal(err)
	}
	return events
}
