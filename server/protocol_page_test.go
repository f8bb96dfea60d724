package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the tables of PROTOCOL.md")

// The tables of PROTOCOL.md are those of protocol.json: go test ./server -run ProtocolPage -update writes them.
func TestProtocolPage(t *testing.T) {
	root := readSchema(t)
	text, err := os.ReadFile("PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	tables := map[string]string{
		"words": root.wordTable(), "ops": root.fieldTable(root.client()), "messages": root.fieldTable(root.server()),
		"events": root.fieldTable(object{{"", *root.Defs.find("event")}}),
		"codes":  table("Code", root.Defs.find("code").OneOf), "close-codes": table("Code", root.CloseCodes), "limits": root.limitTable(),
	}
	markers := regexp.MustCompile("(?s)<!-- ([a-z-]+): .*?-->\n(.*?)<!-- end -->")
	page := markers.ReplaceAllFunc(text, func(p []byte) []byte {
		m := markers.FindSubmatch(p)
		name := string(m[1])
		made, ok := tables[name]
		if !ok {
			t.Errorf("there is no table %s", name)
		}
		delete(tables, name)
		return fmt.Appendf(nil, "%s-->\n%s<!-- end -->", p[:bytes.Index(p, []byte("-->"))], made)
	})
	if len(tables) > 0 {
		t.Errorf("PROTOCOL.md lacks %v", slices.Collect(maps.Keys(tables)))
	}
	if bytes.Equal(page, text) {
		return
	}
	if !*update {
		t.Fatal("PROTOCOL.md is not what protocol.json says: go test ./server -run ProtocolPage -update")
	}
	if err := os.WriteFile("PROTOCOL.md", page, 0o644); err != nil {
		t.Fatal(err)
	}
}

// rows makes a table of Markdown.
func rows(head []string, body [][]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| %s |\n|%s\n", strings.Join(head, " | "), strings.Repeat("---|", len(head)))
	for _, row := range body {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
	}
	return b.String()
}

func table(head string, all []schema) string {
	var body [][]string
	for _, s := range all {
		body = append(body, []string{fmt.Sprintf("`%v`", s.Const), s.Description, s.Remedy})
	}
	return rows([]string{head, "Means", "Remedy"}, body)
}

func (root *schema) wordTable() string {
	var body [][]string
	for _, w := range root.Defs.find("word").OneOf {
		body = append(body, []string{"`" + w.Title + "`", w.Number, w.Description})
	}
	return rows([]string{"Word", "Number behind it", "Means"}, body)
}

func (root *schema) limitTable() string {
	var body [][]string
	for _, l := range root.Limits {
		setting := ""
		if l.Setting != "" {
			setting = "`" + l.Setting + "`"
		}
		body = append(body, []string{fmt.Sprintf("%v %s", l.Const, l.Unit), l.Description, setting})
	}
	return rows([]string{"Limit", "Of what", "Set by"}, body)
}

// fieldTable has a row for every message, and one for each of its fields.
func (root *schema) fieldTable(messages object) string {
	var body [][]string
	for _, m := range messages {
		name := ""
		if m.name != "" {
			name = "**`" + m.name + "`**"
		}
		body = append(body, []string{name, "", "", m.Description})
		for _, p := range m.Properties {
			if p.name == "op" || p.name == "id" && p.Description == "" && p.Ref == "#/$defs/id" {
				continue // the page says it once for all
			}
			s := root.resolve(p.schema)
			must := ""
			switch {
			case s.Default != nil:
				must = fmt.Sprintf("default %v", s.Default)
				if s.Default == "" {
					must = "default empty"
				}
			case slices.Contains(m.Required, p.name):
				must = "yes"
			}
			body = append(body, []string{"`" + p.name + "`", s.values(), must, s.meaning()})
		}
	}
	return rows([]string{"Field", "Type, range, unit", "Required", "Means"}, body)
}

// values says what a field may be.
func (s *schema) values() string {
	var b strings.Builder
	switch {
	case s.Const != nil:
		fmt.Fprintf(&b, "`%v`", s.Const)
	case s.Enum != nil:
		fmt.Fprintf(&b, "`%s`", strings.Join(s.Enum, "` or `"))
	case s.Type == "integer":
		b.WriteString("whole number")
	default:
		fmt.Fprint(&b, s.Type)
	}
	switch {
	case s.Minimum != nil && s.Maximum != nil && *s.Maximum == 1<<53-1:
		b.WriteString(", 0 to 2^53-1")
	case s.Minimum != nil && s.Maximum != nil:
		fmt.Fprintf(&b, ", %v to %v", *s.Minimum, *s.Maximum)
	case s.Minimum != nil:
		fmt.Fprintf(&b, ", %v or more", *s.Minimum)
	}
	if s.MaxLength > 0 {
		fmt.Fprintf(&b, ", up to %d characters", s.MaxLength)
	}
	if s.Unit != "" {
		b.WriteString(", " + s.Unit)
	}
	return b.String()
}

// meaning is the description, with what each value means where there is a choice.
func (s *schema) meaning() string {
	var all []string
	for _, c := range s.OneOf {
		if len(s.OneOf) < 15 { // codes have a table of their own
			all = append(all, fmt.Sprintf("`%q`: %s", c.Const, c.Description))
		}
	}
	if all == nil {
		return s.Description
	}
	return s.Description + ": " + strings.Join(all, "; ")
}

// The messages of the server that the pages show have the fields that it sends.
func TestExamples(t *testing.T) {
	root := readSchema(t)
	shown := 0
	for _, file := range []string{"PROTOCOL.md", "../README.md"} {
		page, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range regexp.MustCompile(`(?m)^ +(?:< )?(\{"op":.*\})$`).FindAllSubmatch(page, -1) {
			shown++
			var m map[string]any
			if err := json.Unmarshal(line[1], &m); err != nil {
				t.Errorf("%s: %s: %v", file, line[1], err)
				continue
			}
			described := root.server().find(fmt.Sprint(m["op"]))
			if described == nil {
				t.Errorf("%s: there is no such message: %s", file, line[1])
				continue
			}
			for name := range m {
				if described.Properties.find(name) == nil {
					t.Errorf("%s: %s has no %q: %s", file, m["op"], name, line[1])
				}
			}
			for _, name := range described.Required {
				if m[name] == nil {
					t.Errorf("%s: the %s lacks its %q: %s", file, m["op"], name, line[1])
				}
			}
		}
	}
	if shown < 10 {
		t.Fatalf("the pages show %d messages", shown)
	}
}

// The tests that the README names exist.
func TestReadmeNamesTests(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]bool{}
	each(append(parseFiles(t, "*_test.go"), parseFiles(t, "websocket/*_test.go")...), func(n ast.Node) {
		if f, ok := n.(*ast.FuncDecl); ok {
			tests[f.Name.Name] = true
		}
	})
	named := regexp.MustCompile("`((Test|Fuzz|Benchmark)[A-Z][A-Za-z]+)`").FindAllSubmatch(text, -1)
	if len(named) < 20 {
		t.Fatalf("the README names %d tests", len(named))
	}
	for _, m := range named {
		if !tests[string(m[1])] {
			t.Errorf("there is no %s", m[1])
		}
	}
}
