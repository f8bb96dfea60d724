package main

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// role is what a client may do.
type role uint8

const (
	stranger role = iota // nothing
	view                 // watch
	control              // and drive
)

func (r role) String() string { return [...]string{"none", "view", "control"}[r] }

func (r role) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// Wrong tokens from one address: so many at once, and then so many a second, are looked at. Those beyond are not, right
// or wrong, so that guessing takes as long as it should.
var guesses = limit{rate: 1, burst: 10}

// access tells who may do what.
type access struct {
	// Fixed by newAccess.
	control, view *secret // nil: there is no such token
	nobody        role    // of who shows no token
	cookie        string  // its name; browsers don't tell ports apart

	// Cookies have a limit of their own: a hostile page can have its reader's browser send any token, but no cookie of ours.
	// So it can't lock a driver out that has one; nor do cookies that are out of date keep their owner from logging in anew.
	guessers, cookies *limiter
}

// secret is a token's hash: to compare hashes takes as long for a wrong one as for the right one, whatever its length.
type secret [sha256.Size]byte

func newSecret(token string) *secret {
	if token == "" {
		return nil
	}
	s := secret(sha256.Sum256([]byte(token)))
	return &s
}

func (s *secret) is(token string) bool {
	hash := sha256.Sum256([]byte(token))
	return s != nil && subtle.ConstantTimeCompare(s[:], hash[:]) == 1
}

// isToken68 tells whether a token can stand in an Authorization field (RFC 6750 section 2.1) and in a cookie.
func isToken68(s string) bool {
	return s != "" && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/=") == ""
}

func newAccess(open bool, controlToken, viewToken, port string) *access {
	a := &access{control: newSecret(controlToken), view: newSecret(viewToken), nobody: view,
		cookie: "roverd_" + port, guessers: newLimiter(guesses), cookies: newLimiter(guesses)}
	switch {
	case open:
		a.nobody = control
	case a.view != nil:
		a.nobody = stranger
	}
	return a
}

var (
	errNoToken     = &wireError{badToken, "this car wants a token: it is in the configuration of roverd; add ?token=... to the address of the page, or send it as Authorization: Bearer"}
	errStranger    = &wireError{notAllowed, "this car wants a token: send auth with it first"}
	errWatches     = &wireError{notAllowed, "you may watch, not drive: open the address with the token that roverd printed when it started, or send auth with the token"}
	errWrongToken  = &wireError{badToken, "the token is wrong: the right one is in the address that roverd printed when it started, or in its configuration"}
	errManyGuesses = &wireError{tooFast, "too many wrong tokens from this address: wait a minute, and use the right one"}
)

// check returns the role that a token gives to a client from an address.
func (a *access) check(token string, from netip.Addr, now time.Time) (role, error) {
	return a.look(token, a.guessers, from, now)
}

func (a *access) look(token string, guessers *limiter, from netip.Addr, now time.Time) (role, error) {
	switch {
	case !guessers.ready(from, now):
		return stranger, errManyGuesses
	case a.control.is(token):
		return control, nil
	case a.view.is(token):
		return max(view, a.nobody), nil
	}
	guessers.take(from, now)
	return stranger, errWrongToken
}

// credentials are what a request says of who sends it.
type credentials struct {
	authorization, cookie string // the fields
	token                 string // ?token=
	from                  netip.Addr
}

func credentialsOf(r *http.Request, from netip.Addr) credentials {
	return credentials{strings.Join(r.Header.Values("Authorization"), ","), strings.Join(r.Header.Values("Cookie"), "; "),
		queryToken(r.URL), from}
}

// queryToken returns the token in an address. Its + stands for a space there, which no token has; people write it all the
// same.
func queryToken(u *url.URL) string { return strings.ReplaceAll(u.Query().Get("token"), " ", "+") }

// role returns what who sent c may do. A wrong token is an error, but for a cookie: those outlive the server that set them.
func (a *access) role(c credentials, now time.Time) (role, error) {
	if a.nobody == control {
		return control, nil // whatever it shows
	}
	token := c.token
	if scheme, rest, _ := strings.Cut(c.authorization, " "); strings.EqualFold(scheme, "Bearer") {
		token = strings.TrimSpace(rest)
	}
	if token != "" {
		return a.check(token, c.from, now)
	}
	if token = a.cookieToken(c.cookie); token != "" {
		if r, err := a.look(token, a.cookies, c.from, now); err == nil {
			return r, nil
		}
	}
	return a.nobody, nil
}

// cookieToken finds the token in a Cookie field (RFC 6265 section 5.4).
func (a *access) cookieToken(field string) string {
	for pair := range strings.SplitSeq(field, ";") {
		if name, value, _ := strings.Cut(strings.TrimSpace(pair), "="); name == a.cookie {
			return value
		}
	}
	return ""
}

// setCookie has a browser show the token from now on, to this server only, and to none of its pages' scripts.
func (a *access) setCookie(w http.ResponseWriter, token string, secure bool) {
	http.SetCookie(w, &http.Cookie{Name: a.cookie, Value: token, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: secure})
}
