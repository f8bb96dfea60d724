package browser

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// A link with the token, in a page of another site, opens the page, and the token does not stay in the address; who has
// none stays where it is asked for.
func TestLinkFromAnotherSite(t *testing.T) {
	config := filepath.Join(t.TempDir(), "roverd.toml")
	if err := os.WriteFile(config, []byte("[tokens]\ncontrol = \"drive-0123456789\"\nview = \"watch-0123456789\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(roverd, "-addr", "127.0.0.1:0", "-config", config, "-log-level", "error")
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	var url string
	if _, err := fmt.Fscanf(bufio.NewReader(stdout), "open %s in a browser", &url); err != nil {
		t.Fatal(err)
	}
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<a id="none" href="%[1]s">the car</a> <a id="token" href="%[1]s?token=drive-0123456789">the car</a>`, url)
	}))
	defer site.Close()
	ctx, stop := chromedp.NewContext(chrome)
	defer stop()
	follow := func(link, want string) {
		t.Helper()
		chromedp.Do(ctx, chromedp.Navigate(strings.Replace(site.URL, "127.0.0.1", "localhost", 1)))
		if err := chromedp.Do(ctx, chromedp.Click("#"+link)); err != nil {
			t.Fatal(err)
		}
		eventually(t, want, func() bool {
			found, _ := chromedp.Run(ctx, chromedp.Evaluate[bool](fmt.Sprintf("Boolean(document.querySelector(%q))", want)))
			at, _ := chromedp.Run(ctx, chromedp.Location())
			return found && at == url
		})
	}
	follow("none", "body.login")
	follow("token", "#status[data-state=connected]")
}
