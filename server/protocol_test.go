package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"roverd/hardware"
	"roverd/server/websocket"

	"github.com/gobwas/ws"
)

// protocol.json describes the messages for programs, PROTOCOL.md for people, who write clients. These tests hold both
// against the code; server/interop/schema.py holds what a server really sends against protocol.json.

// schema is as much of JSON Schema 2020-12 as protocol.json has.
type schema struct {
	Ref         string   `json:"$ref"`
	Defs        object   `json:"$defs"`
	Title       string   `json:"title"`
	Description string   `json:"description"`
	Type        any      `json:"type"`
	Const       any      `json:"const"`
	Enum        []string `json:"enum"`
	Default     any      `json:"default"`
	Minimum     *float64 `json:"minimum"`
	Maximum     *float64 `json:"maximum"`
	MinLength   int      `json:"minLength"`
	MaxLength   int      `json:"maxLength"`
	Pattern     string   `json:"pattern"`
	Required    []string `json:"required"`
	Properties  object   `json:"properties"`
	AnyOf       []schema `json:"anyOf"`
	OneOf       []schema `json:"oneOf"`
	// Beyond the standard.
	Unit       string   `json:"x-unit"`
	Number     string   `json:"x-number"` // of a word, what number may stand behind it
	Remedy     string   `json:"x-remedy"`
	Setting    string   `json:"x-set"`
	CloseCodes []schema `json:"x-close-codes"`
	Limits     []schema `json:"x-limits"`
}

// object keeps the order of its members, which is that of the page.
type object []member

type member struct {
	name string
	schema
}

func (o *object) UnmarshalJSON(p []byte) error {
	return fields(bytes.TrimSpace(p), func(name, value []byte) error {
		m := member{name: string(name)}
		*o = append(*o, m)
		if value[0] != '{' { // true or false: for validators
			return nil
		}
		return json.Unmarshal(value, &(*o)[len(*o)-1].schema)
	})
}

func (o object) names() (all []string) {
	for _, m := range o {
		all = append(all, m.name)
	}
	return all
}

func (o object) find(name string) *schema {
	for i := range o {
		if o[i].name == name {
			return &o[i].schema
		}
	}
	return nil
}

func titles(all []schema) (found []string) {
	for _, s := range all {
		found = append(found, s.Title)
	}
	return found
}

func consts(all []schema) (found []string) {
	for _, s := range all {
		found = append(found, fmt.Sprint(s.Const))
	}
	return found
}

func readSchema(t *testing.T) *schema {
	t.Helper()
	text, err := os.ReadFile("protocol.json")
	if err != nil {
		t.Fatal(err)
	}
	s := &schema{}
	if err := json.Unmarshal(text, s); err != nil {
		t.Fatal(err)
	}
	return s
}

// resolve follows a reference; what stands beside that goes before what it leads to.
func (root *schema) resolve(s schema) schema {
	if s.Ref == "" {
		return s
	}
	to := root
	for name := range strings.SplitSeq(strings.TrimPrefix(s.Ref, "#/"), "/") {
		if name != "$defs" {
			to = to.Defs.find(name)
		}
	}
	found := root.resolve(*to)
	if s.Description != "" {
		found.Description = s.Description
	}
	return found
}

func (root *schema) client() object { return root.Defs.find("client").Defs }
func (root *schema) server() object { return root.Defs.find("server").Defs }

// same complains unless two sets are equal.
func same(t *testing.T, what string, code, described []string) {
	t.Helper()
	code, described = slices.Clone(code), slices.Clone(described)
	slices.Sort(code)
	slices.Sort(described)
	if code = slices.Compact(code); !slices.Equal(code, described) {
		t.Errorf("%s: the code has\n%v\nand protocol.json has\n%v", what, code, described)
	}
}

func TestProtocolOfClients(t *testing.T) {
	root := readSchema(t)
	described := root.Defs.find("word").OneOf
	same(t, "words", slices.Collect(maps.Keys(words)), titles(described))
	same(t, "words in an error", strings.Fields(wordList), titles(described))
	same(t, "ops", slices.Collect(maps.Keys(ops)), root.client().names())
	same(t, "ops in an error", strings.Fields(opList), root.client().names())
	for _, w := range described {
		pattern := regexp.MustCompile(w.Pattern)
		for _, behind := range []string{"", " 5", " -2.5", "  60", " fast", " now", " Ann B"} {
			text := w.Title + behind
			if _, err := parse([]byte(text), 10); pattern.MatchString(text) && err != nil {
				t.Errorf("%q is described as valid, but is %v", text, err)
			} else if err == nil && !pattern.MatchString(text) && behind != " -2.5" { // of driving it is taken as 0: nobody should
				t.Errorf("%q is valid, but not described", text)
			}
		}
		if r := words[w.Title]; (w.Number != "") != (r.op == opCar && (r.car.Kind == hardware.Drive || r.car.Kind == hardware.Turn)) {
			t.Errorf("%s takes the number %q", w.Title, w.Number)
		}
	}

	var known []string
	for _, op := range root.client() {
		if got := op.Properties.find("op").Const; got != op.name {
			t.Errorf("the op of %s is %v", op.name, got)
		}
		known = append(known, op.Properties.names()...)
		for _, p := range op.Properties {
			s := root.resolve(p.schema)
			wrong := map[any]string{"number": `"x"`, "integer": "1.5", "string": "7", nil: "7"}[s.Type] // nil is op's
			message := fmt.Sprintf(`{%q:%s,"op":%q}`, p.name, wrong, op.name)
			if _, err := parse([]byte(message), 10); err == nil || !strings.HasPrefix(err.Error(), p.name+":") {
				t.Errorf("%s, where %s should be of type %v: %v", message, p.name, s.Type, err)
			}
		}
	}
	var read []string
	files := parseFiles(t, "request.go")
	each(files, func(n ast.Node) {
		if f, ok := n.(*ast.FuncDecl); ok && f.Name.Name == "parseJSON" {
			each([]*ast.File{{Decls: []ast.Decl{f}, Name: f.Name}}, func(n ast.Node) {
				if c, ok := n.(*ast.CaseClause); ok {
					read = append(read, literals(c.List)...)
				}
			})
		}
	})
	slices.Sort(known)
	same(t, "fields of clients", append(read, numbers[:]...), slices.Compact(known))
}

func TestProtocolOfTheServer(t *testing.T) {
	root := readSchema(t)
	w := newWelcome(view, hardware.DefaultTTL, helmOne, "simulated", "")
	state := encode(&stateMessage{Op: "state", Name: "Ann", Claim: "v2", Camera: &cameraState{}, Fault: "x"})
	sent := map[string][]string{}
	for _, p := range [][]byte{
		w.append(nil, 17), appendState(nil, 3, state), encodeClaim("v2", "Bob", 1), appendPong(nil, 3), appendRole(nil, 3, control), appendDone(nil, 3, time.Second),
		appendResult(nil, 3, hardware.Result{Seq: 1, Applied: true, Took: 1}), appendError(nil, 3, errNotJSON),
	} {
		var op string
		var names []string
		if err := fields(p, func(name, value []byte) error {
			if names = append(names, string(name)); string(name) == "op" {
				op = string(text(value))
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		sent[op] = append(sent[op], names...)
	}
	same(t, "messages", slices.Collect(maps.Keys(sent)), root.server().names())
	for _, m := range root.server() {
		same(t, "fields of "+m.name, sent[m.name], m.Properties.names())
	}
	same(t, "motion", jsonNames(motion{}), root.server().find("state").Properties.find("motion").Properties.names())
	same(t, "camera", jsonNames(cameraState{}), root.server().find("state").Properties.find("camera").Properties.names())
	same(t, "events", jsonNames(event{}), root.Defs.find("event").Properties.names())
	same(t, "roles", []string{stranger.String(), view.String(), control.String()}, root.Defs.find("role").Enum)
	if got := root.server().find("welcome").Properties.find("protocol").Const; got != float64(protocol) || root.Title != websocket.Subprotocol {
		t.Errorf("version %v, %s", got, root.Title)
	}
}

// jsonNames returns what a struct's fields are called as JSON.
func jsonNames(v any) (all []string) {
	for f := range reflect.TypeOf(v).Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		all = append(all, name)
	}
	return all
}

// Every code has one constant, and nobody spells one out.
func TestProtocolCodes(t *testing.T) {
	root := readSchema(t)
	files := parseFiles(t, "*.go")
	codes := map[string]string{} // by the names of their constants
	var causes, events, closes []string
	each(append(files, parseFiles(t, "../hardware/car.go")...), func(n ast.Node) {
		d, ok := n.(*ast.GenDecl)
		if !ok || d.Tok != token.CONST {
			return
		}
		for _, spec := range d.Specs {
			s := spec.(*ast.ValueSpec)
			value := literals(s.Values)
			if len(value) == 0 {
				continue
			}
			if d.Doc.Text() != "" && strings.HasPrefix(d.Doc.Text(), "Codes of refusals") {
				codes[s.Names[0].Name] = value[0]
			}
			if strings.HasPrefix(strings.ToLower(s.Names[0].Name), "cause") {
				causes = append(causes, value[0])
			}
		}
	})
	spells := func(x ast.Expr, what string) {
		if name, ok := x.(*ast.Ident); !ok || codes[name.Name] == "" && name.Name != "code" {
			t.Errorf("%s has a code that is not one of the constants of refusal.go", what)
		}
	}
	each(append(files, parseFiles(t, "websocket/*.go")...), func(n ast.Node) {
		switch n := n.(type) {
		case *ast.CallExpr:
			if name, ok := n.Fun.(*ast.Ident); ok && name.Name == "refusal" {
				spells(n.Args[0], "a refusal")
			}
		case *ast.CompositeLit:
			switch name, _ := n.Type.(*ast.Ident); {
			case name == nil:
			case name.Name == "wireError":
				spells(n.Elts[0], "a wireError")
			case name.Name == "event":
				for _, e := range n.Elts {
					if kv := e.(*ast.KeyValueExpr); kv.Key.(*ast.Ident).Name == "What" {
						events = append(events, literals([]ast.Expr{kv.Value})...)
					}
				}
			}
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && x.Name == "ws" && strings.HasPrefix(n.Sel.Name, "Status") && n.Sel.Name != "StatusCode" {
				closes = append(closes, n.Sel.Name)
			}
		}
	})
	same(t, "codes", slices.Collect(maps.Values(codes)), consts(root.Defs.find("code").OneOf))
	same(t, "causes", append(causes, ""), consts(root.server().find("state").Properties.find("cause").OneOf))
	events = append(events, slices.Collect(maps.Values(stopNames))...)
	same(t, "causes that are counted", append(newStops().names(), ""), append(causes, ""))
	same(t, "events", events, consts(root.Defs.find("event").Properties.find("what").OneOf))

	numbers := []string{fmt.Sprint(tryAgainLater), fmt.Sprint(ws.StatusNormalClosure)}
	for _, name := range closes {
		code, ok := map[string]ws.StatusCode{
			"StatusNormalClosure": ws.StatusNormalClosure, "StatusGoingAway": ws.StatusGoingAway, "StatusPolicyViolation": ws.StatusPolicyViolation, "StatusMessageTooBig": ws.StatusMessageTooBig,
			"StatusInternalServerError": ws.StatusInternalServerError, "StatusProtocolError": ws.StatusProtocolError,
			"StatusInvalidFramePayloadData": ws.StatusInvalidFramePayloadData,
			// Codes that no close frame may have (RFC 6455 section 7.4.1).
			"StatusNoMeaningYet": 0, "StatusNoStatusRcvd": 0, "StatusAbnormalClosure": 0,
		}[name]
		if !ok {
			t.Errorf("ws.%s is unknown here", name)
		}
		if code != 0 {
			numbers = append(numbers, fmt.Sprint(code))
		}
	}
	same(t, "close codes", numbers, consts(root.CloseCodes))
}

func TestProtocolLimits(t *testing.T) {
	root := readSchema(t)
	c := &config{}
	c.flags()
	ms := func(d time.Duration) float64 { return float64(d.Milliseconds()) }
	want := map[string]float64{
		"message": maxMessage, "name": maxName, "token": leastToken, "ttl": ms(hardware.DefaultTTL), "ttl_most": ms(hardware.MaxTTL),
		"step": c.Camera.Step, "helm_idle": ms(helmIdle), "claim_time": ms(claimTime), "refusal_time": ms(refusalTime),
		"messages": c.MaxMessages, "messages_burst": 2 * c.MaxMessages, "guesses": guesses.rate, "guesses_burst": guesses.burst,
		"connections": float64(c.MaxPerAddr), "new_connections": c.MaxNewPerAddr, "state": ms(stateInterval), "backlog": maxBacklog,
		"ping": ms(pingAfter), "head": ms(headTime),
	}
	got := map[string]float64{}
	for _, l := range root.Limits {
		got[l.Title], _ = l.Const.(float64)
	}
	if !maps.Equal(got, want) {
		t.Errorf("the limits are\n%v, want\n%v", got, want)
	}
	if pongTime != pingAfter || root.client().find("name").Properties.find("name").MaxLength != maxName {
		t.Errorf("a limit has changed")
	}
	if w := root.server().find("welcome").Properties.find("ttl_ms"); *w.Maximum != ms(hardware.MaxTTL) {
		t.Errorf("the time to live is up to %v", *w.Maximum)
	}
}

// parseFiles parses the files of that pattern, but for tests, unless it asks for them.
func parseFiles(t *testing.T, pattern string) (all []*ast.File) {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		t.Fatal(pattern, err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") && !strings.HasSuffix(pattern, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, f)
	}
	return all
}

func each(files []*ast.File, f func(ast.Node)) {
	for _, file := range files {
		ast.Inspect(file, func(n ast.Node) bool {
			if n != nil {
				f(n)
			}
			return true
		})
	}
}

// literals returns the strings among some expressions.
func literals(list []ast.Expr) (all []string) {
	for _, x := range list {
		if l, ok := x.(*ast.BasicLit); ok && l.Kind == token.STRING {
			s, _ := strconv.Unquote(l.Value)
			all = append(all, s)
		}
	}
	return all
}
