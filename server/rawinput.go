package main

import (
	"bytes"
	"crypto/tls"
	"reflect"
	"unsafe"
)

// crypto/tls keeps two buffers with each connection for as long as that lives: of the records that it reads, and of the
// handshake's messages, as large as the largest they have held. At rest they are empty, and yet they are half of what a
// viewer over TLS 1.3 costs: 4 of 8 KB. So the loop's own is put in place of the first for as long as a connection is
// read, and the second dropped after the handshake. crypto/tls has no way to ask for that; if a version of Go comes that
// calls or types these fields otherwise, they stay where they are (and TestIdleTLSConnectionHasNoBuffers says so).
var (
	rawInputAt, hasRawInput = bufferIn("rawInput")
	handAt, hasHand         = bufferIn("hand")
)

func bufferIn(name string) (offset uintptr, ok bool) {
	field, ok := reflect.TypeFor[tls.Conn]().FieldByName(name)
	return field.Offset, ok && field.Type == reflect.TypeFor[bytes.Buffer]()
}

func bufferAt(c *tls.Conn, offset uintptr) *bytes.Buffer {
	return (*bytes.Buffer)(unsafe.Add(unsafe.Pointer(c), offset))
}

// dropHandshake drops the buffer of the handshake, which is over.
func dropHandshake(c *tls.Conn) {
	if hasHand && bufferAt(c, handAt).Len() == 0 {
		*bufferAt(c, handAt) = bytes.Buffer{}
	}
}

// rawInput is the loop's buffer.
type rawInput struct {
	buffer bytes.Buffer
	lentTo *tls.Conn
}

// lend puts the buffer, with what is left in the connection's own, into the connection. It must not be read meanwhile
// by anyone else.
func (r *rawInput) lend(c *tls.Conn) {
	if !hasRawInput {
		return
	}
	own := bufferAt(c, rawInputAt)
	r.buffer.Reset()
	r.buffer.Write(own.Bytes())
	*own, r.lentTo = r.buffer, c
}

// takeBack leaves with the connection what it has of a record that is not complete.
func (r *rawInput) takeBack() {
	if r.lentTo == nil {
		return
	}
	lent := bufferAt(r.lentTo, rawInputAt)
	r.buffer, r.lentTo = *lent, nil
	*lent = bytes.Buffer{}
	if rest := r.buffer.Bytes(); len(rest) > 0 {
		*lent = *bytes.NewBuffer(bytes.Clone(rest))
	}
}
