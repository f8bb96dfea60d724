package main

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
)

// fields calls f for each member of the JSON object p, in their order, and stops at its first error. encoding/json says
// whether p is valid; to take it apart without making garbage is all that is left to do here.
func fields(p []byte, f func(name, value []byte) error) error {
	if !json.Valid(p) {
		return errNotJSON
	}
	p = space(p)[1:] // the {
	for {
		p = space(p)
		switch p[0] {
		case '}':
			return nil
		case ',':
			p = space(p[1:])
		}
		n := valueLength(p)
		name := p[:n]
		p = space(space(p[n:])[1:]) // the colon
		n = valueLength(p)
		if err := f(text(name), p[:n]); err != nil {
			return err
		}
		p = p[n:]
	}
}

func space(p []byte) []byte { return bytes.TrimLeft(p, " \t\r\n") }

// valueLength returns the length of the JSON value that p begins with.
func valueLength(p []byte) int {
	depth, quoted := 0, false
	for i := 0; ; i++ {
		switch {
		case quoted && p[i] == '\\':
			i++
			continue
		case p[i] == '"':
			quoted = !quoted
		case quoted:
			continue
		case p[i] == '{' || p[i] == '[':
			depth++
		case p[i] == '}' || p[i] == ']':
			if depth--; depth < 0 {
				return i // it is of what the value stands in
			}
		case depth == 0 && (p[i] == ',' || p[i] == ':' || p[i] <= ' '):
			return i
		}
		if depth == 0 && !quoted && (p[i] == '"' || p[i] == '}' || p[i] == ']') {
			return i + 1
		}
	}
}

// text returns what a JSON string says; nil if the value is none.
func text(value []byte) []byte {
	if value[0] != '"' {
		return nil
	}
	if bytes.IndexByte(value, '\\') < 0 {
		return value[1 : len(value)-1]
	}
	var s string
	json.Unmarshal(value, &s) // which is known to be valid
	return []byte(s)
}

// number returns a JSON number, if the value is one that a float64 can hold.
func number(value []byte) (float64, bool) {
	if value[0] != '-' && (value[0] < '0' || value[0] > '9') {
		return 0, false
	}
	v, err := strconv.ParseFloat(string(value), 64)
	return v, err == nil
}

// integer returns a JSON number that is whole and not negative, and that every JSON library keeps exactly (RFC 8259
// section 6).
func integer(value []byte) (int64, bool) {
	v, ok := number(value)
	return int64(v), ok && v >= 0 && v < 1<<53 && v == math.Trunc(v)
}
