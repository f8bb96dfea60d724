package main

import (
	"bytes"
	"unicode/utf8"
)

// splitter takes lines out of the bytes that a peer sends, in whatever portions they come. The zero splitter is ready.
type splitter struct {
	part []byte // of a line whose end has not come yet
}

// cut slices p behind its first line. The line is without its end, LF or CRLF, and valid until the next call. When none
// is found, all of p is the beginning of one: call again with what arrives next. Of a line longer than limit comes only
// so much that this can be seen, and not more is kept.
func (s *splitter) cut(p []byte, limit int) (line, rest []byte, found bool) {
	most := limit + 2 // what may yet be a line and a CR has one byte less
	line, rest, found = bytes.Cut(p, []byte{'\n'})
	if !found || len(s.part) > 0 {
		s.part = append(s.part, line[:min(len(line), most-len(s.part))]...)
		line = s.part
	}
	if !found && len(line) < most {
		return nil, nil, false
	}
	s.part = s.part[:0]
	return bytes.TrimSuffix(line, []byte{'\r'}), rest, true
}

// isText tells whether p is UTF-8 without control characters, but for tabs, which JSON may have between its tokens.
func isText(p []byte) bool {
	for _, c := range p {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return utf8.Valid(p)
}
