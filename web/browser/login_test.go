package browser

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

const viewToken = "only-to-watch"

// mayDrive waits until all controls can be used, or none.
func (p *tab) mayDrive(yes bool) {
	p.t.Helper()
	p.until(fmt.Sprintf(`document.body.dataset.live === 'yes' && [...document.querySelectorAll('%s')].every((one) => one.disabled !== %v)`, controls, yes))
}

// enter types a token into the page's field.
func (p *tab) enter(token string) {
	p.t.Helper()
	p.click("#token")
	p.do(chromedp.KeyEvent(token + "\r"))
}

// wantCookie waits until the browser keeps this token as a cookie, out of reach of scripts and of other sites.
func (p *tab) wantCookie(token string) {
	p.t.Helper()
	eventually(p.t, "a cookie with the token", func() bool {
		cookies := call(p, network.GetCookies, network.GetCookiesParams{}).Cookies
		return len(cookies) == 1 && cookies[0].Value == token && cookies[0].HTTPOnly && cookies[0].SameSite == network.CookieSameSiteStrict
	})
}

// The address that roverd prints has the token; the page's own has not, and its scripts never see it.
func TestTokenInAddress(t *testing.T) {
	c := startClosed(t)
	p := open(t, chrome, c.login(), "")
	if at := eval[string](p, `location.href`); at != c.url {
		t.Errorf("the page is at %s, not %s", at, c.url)
	}
	p.wantCookie(c.token)
	if cookie := eval[string](p, `document.cookie`); cookie != "" {
		t.Errorf("the page can read the cookie %q", cookie)
	}
	p.do(chromedp.Reload())
	p.mayDrive(true)
	p.down('w', false)
	c.wantSteady(forward)
	p.up('w')
}

// Who watches drives with the token, in the same connection, and again after a reload.
func TestTokenInPage(t *testing.T) {
	c := startClosed(t)
	p := open(t, chrome, c.url, "")
	p.mayDrive(false)
	eval[any](p, `{ window.loaded = true; }`)
	me := p.id()
	p.enter("a-wrong-token")
	p.shows("#notice", "the token is wrong")
	p.mayDrive(false)
	p.do(chromedp.KeyEvent(c.token + "\r")) // over the wrong one
	p.mayDrive(true)
	p.until(`document.querySelector('#login').hidden && document.querySelector('#role-note').hidden && window.loaded`)
	if p.id() != me {
		t.Errorf("%s drives, not %s", p.id(), me)
	}
	if log := eval[string](p, `document.querySelector('#log').textContent`); strings.Contains(log, c.token) {
		t.Error("the log shows the token")
	}
	p.down('w', false)
	c.wantSteady(forward)
	p.up('w')
	p.wantCookie(c.token)
	p.do(chromedp.Reload())
	p.mayDrive(true)
}

// Where even to watch takes a token, the first page asks for it.
func TestLoginPage(t *testing.T) {
	c := startClosed(t, "ROVERD_VIEW_TOKEN="+viewToken)
	p := blank(t, chrome, chromedp.WithNewBrowserContext())
	p.do(chromedp.Navigate(c.url))
	p.shows(".login #how", "takes a token")
	p.until(`document.activeElement.id === 'token'`)
	for name, viewport := range viewports {
		p.do(viewport)
		p.inSight(parts(".login form, #token, .login button"), "#token, .login button")
		for _, scheme := range []string{"light", "dark"} {
			if dir := os.Getenv("ROVERD_SCREENSHOTS"); dir != "" {
				p.colours(scheme)
				p.screenshot(filepath.Join(dir, "login-"+name+"-"+scheme+".png"))
			}
		}
	}
	p.enter("a-wrong-token")
	p.until(`(document.querySelector('.login [role=alert]')?.textContent ?? '').includes('the token is wrong') && document.activeElement.id === 'token'`)
	p.enter(viewToken)
	p.until(`document.querySelector('#status')?.dataset.state === 'connected'`)
	p.mayDrive(false)
	p.wantCookie(viewToken)
	p.enter(c.token)
	p.mayDrive(true)
	p.wantCookie(c.token)
	p.do(chromedp.Reload())
	p.mayDrive(true)
}

// Who has the token of a roverd that was started again with another is asked for the new one.
func TestTokenOutOfDate(t *testing.T) {
	c := startClosed(t, "ROVERD_VIEW_TOKEN="+viewToken)
	p := blank(t, chrome, chromedp.WithNewBrowserContext())
	p.do(chromedp.Navigate(c.login()))
	p.until(`document.querySelector('#status')?.dataset.state === 'connected'`)
	host := c.host()
	c.kill()
	c.start(host)
	p.until(`document.querySelector('.login #how') !== null && document.activeElement.id === 'token'`)
	p.enter(c.token)
	p.until(`document.querySelector('#status')?.dataset.state === 'connected'`)
	p.mayDrive(true)
}

// hostile is a page that tries all that a page can to reach the car at %s.
const hostile = `<!doctype html><title>hostile</title>
<iframe name="into"></iframe><iframe id="frame" src="http://%[1]s/"></iframe>
<form id="post" method="post" action="http://%[1]s/" enctype="text/plain" target="into"><input name="up 100" value=""></form>
<form id="get" method="get" action="http://%[1]s/ws" target="into"><input name="op" value="drive"></form>
<script>
const sockets = ['/', '/ws', '/?token=x'].map((path) => new Promise((done) => {
	const socket = new WebSocket('ws://%[1]s' + path);
	socket.onopen = () => { socket.send('up 100'); done('connected'); };
	socket.onclose = () => done('refused');
}));
const pictures = ['/', '/state', '/up', '/ws?op=drive'].map((path) => new Promise((done) => {
	const image = new Image();
	image.onload = image.onerror = () => done('refused');
	image.src = 'http://%[1]s' + path;
}));
const fetches = [['GET', '/state'], ['GET', '/drivelog'], ['POST', '/'], ['POST', '/ws']].map(([method, path]) =>
	fetch('http://%[1]s' + path, {method, credentials: 'include', body: method === 'POST' ? 'up 100' : undefined})
		.then(() => 'connected', () => 'refused'));
const blind = fetch('http://%[1]s/', {method: 'POST', mode: 'no-cors', credentials: 'include', body: 'up 100'}).then(() => 'refused', () => 'refused');
post.submit();
get.submit();
Promise.all([...sockets, ...pictures, ...fetches, blind]).then((all) => { document.title = all.every((one) => one === 'refused') ? 'refused' : all.join(' '); });
</script>`

// A page of another origin can't connect, nor drive, in the browser of somebody who may: neither one of another port,
// which the browser sends the cookie along for, nor one of another site.
func TestHostilePage(t *testing.T) {
	c := startClosed(t)
	mine := open(t, chrome, c.login(), "")
	mine.wantCookie(c.token)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, hostile, c.host())
	}))
	t.Cleanup(s.Close)
	before := c.state()
	for _, site := range []string{s.URL, strings.Replace(s.URL, "127.0.0.1", "localhost", 1)} {
		p := blank(t, mine.ctx, chromedp.WithExistingBrowserContext(chromedp.FromContext(mine.ctx).BrowserContextID))
		p.do(chromedp.Navigate(site))
		p.until(`document.title !== 'hostile'`)
		if got := eval[string](p, `document.title`); got != "refused" {
			t.Errorf("from %s: %s", site, got)
		}
		p.until(`document.readyState === 'complete'`)
	}
	if now := c.state(); now.Seq != before.Seq || now.Driver != "" || now.Viewers != 1 {
		t.Errorf("the hostile pages changed the state from %+v to %+v", before, now)
	}
	mine.do(chromedp.Reload()) // in the same browser, with the same cookie
	mine.mayDrive(true)
}
