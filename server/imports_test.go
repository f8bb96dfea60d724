package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// Imports run one way: server and bench know the others, which know nobody.
func TestImportDirections(t *testing.T) {
	allowed := map[string][]string{
		"roverd/server":           {"roverd/hardware", "roverd/netpoll", "roverd/server/websocket", "roverd/web"},
		"roverd/bench":            {"roverd/netpoll", "roverd/server/websocket"},
		"roverd/netpoll":          nil,
		"roverd/server/websocket": nil,
		"roverd/hardware":         nil,
		"roverd/web":              nil,
	}
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("NOT TESTED here: it needs the go command")
	}
	out, err := exec.Command(goTool, "list", "-f", `{{.ImportPath}} {{join .Imports " "}} {{join .TestImports " "}} {{join .XTestImports " "}}`, "roverd/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != len(allowed) {
		t.Errorf("the packages are\n%s\nwant %d; say here what a new one may import", out, len(allowed))
	}
	for _, line := range lines {
		imports := strings.Fields(line)
		ours, known := allowed[imports[0]]
		if !known {
			t.Errorf("unknown package %s", imports[0])
		}
		for _, i := range imports[1:] {
			if strings.HasPrefix(i, "roverd/") && !slices.Contains(ours, i) {
				t.Errorf("%s imports %s", imports[0], i)
			}
			// The reactor and the protocol know no net/http server, the hardware no network at all.
			if imports[0] == "roverd/hardware" && (i == "net" || strings.HasPrefix(i, "net/")) {
				t.Errorf("%s imports %s", imports[0], i)
			}
		}
	}
}
