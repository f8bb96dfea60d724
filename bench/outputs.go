package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// outputs are the files that a report goes into.
type outputs []output

type output struct {
	flag  string
	file  *os.File
	write func(r *report, w io.Writer) error
}

// openOutputs creates the files that are asked for.
func openOutputs(o *options) (all outputs, err error) {
	if o.json != "" && o.json == o.html {
		return nil, usage("-json and -html are the same file, %s: give each its own", o.json)
	}
	for _, out := range []struct {
		flag, name string
		write      func(r *report, w io.Writer) error
	}{{"-json", o.json, (*report).writeJSON}, {"-html", o.html, (*report).writePage}} {
		if out.name == "" {
			continue
		}
		file, err := os.Create(out.name)
		if err != nil {
			all.close()
			return nil, usage("%s: %w", out.flag, err)
		}
		all = append(all, output{out.flag, file, out.write})
	}
	return all, nil
}

func (all outputs) write(r *report) (err error) {
	for _, out := range all {
		if e := errors.Join(out.write(r, out.file), out.file.Close()); e != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", out.flag, e))
		}
	}
	return err
}

func (all outputs) close() {
	for _, out := range all {
		out.file.Close()
	}
}

func (r *report) writeJSON(w io.Writer) error {
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	return out.Encode(r)
}
