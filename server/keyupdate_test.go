package main

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// sealer writes the records of a client of TLS 1.3 with TLS_AES_128_GCM_SHA256 by itself (RFC 8446 sections 5.2 and 7),
// since crypto/tls has no way to ask for a KeyUpdate.
type sealer struct {
	t      *testing.T
	conn   net.Conn
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

func (s *sealer) expand(label string, length int) []byte {
	label = "tls13 " + label
	info := append([]byte{0, byte(length), byte(len(label))}, label...)
	p, err := hkdf.Expand(sha256.New, s.secret, string(append(info, 0)), length)
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

func (s *sealer) rekey(secret []byte) {
	s.secret = secret
	block, err := aes.NewCipher(s.expand("key", 16))
	if err != nil {
		s.t.Fatal(err)
	}
	if s.aead, err = cipher.NewGCM(block); err != nil {
		s.t.Fatal(err)
	}
	s.iv, s.seq = s.expand("iv", 12), 0
}

const (
	recordHandshake   = 22
	recordApplication = 23
)

func (s *sealer) send(kind byte, p string) {
	s.t.Helper()
	inner := append([]byte(p), kind)
	header := binary.BigEndian.AppendUint16([]byte{recordApplication, 3, 3}, uint16(len(inner)+s.aead.Overhead()))
	nonce := bytes.Clone(s.iv)
	binary.BigEndian.PutUint64(nonce[4:], binary.BigEndian.Uint64(nonce[4:])^s.seq)
	s.seq++
	if _, err := s.conn.Write(s.aead.Seal(header, nonce, inner, header)); err != nil {
		s.t.Fatal(err)
	}
}

// A client may change its keys at any time, and have the server change its own (RFC 8446 section 4.6.3), in one record or
// over two that come one after the other.
func TestKeyUpdate(t *testing.T) {
	s, addr, trust := startTLS(t, "-echo", "-loops", "1")
	var secrets bytes.Buffer
	trust = only(trust, tls.VersionTLS13)
	trust.KeyLogWriter = &secrets
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(hangTime))
	reads := tls.Client(conn, trust)
	if err := reads.Handshake(); err != nil {
		t.Fatal(err)
	}
	if suite := reads.ConnectionState().CipherSuite; suite != tls.TLS_AES_128_GCM_SHA256 {
		t.Skipf("NOT TESTED here, without AES in the processor: the suite is %s", tls.CipherSuiteName(suite))
	}
	in := bufio.NewReader(reads)
	_, line, _ := strings.Cut(secrets.String(), "CLIENT_TRAFFIC_SECRET_0 ")
	var random, hexSecret string
	fmt.Sscan(line, &random, &hexSecret)
	secret, err := hex.DecodeString(hexSecret)
	if err != nil || len(secret) != sha256.Size {
		t.Fatalf("%q, %v", line, err)
	}
	writes := &sealer{t: t, conn: conn}
	writes.rekey(secret)
	writes.send(recordApplication, upgradeTo("/echo", ""))
	if r, err := http.ReadResponse(in, nil); err != nil || r.StatusCode != 101 {
		t.Fatal(r, err)
	}
	want := string(ws.MustCompileFrame(ws.NewTextFrame([]byte("Hello"))))
	echoed := make([]byte, len(want))
	for i, update := range [][]string{
		{"\x18\x00\x00\x01\x00"}, {"\x18\x00\x00\x01\x01"}, {"\x18\x00", "\x00\x01\x01"}, {"\x18", "\x00", "\x00\x01", "\x00"}, {"\x18\x00\x00\x01\x01"},
	} {
		for _, part := range update {
			writes.send(recordHandshake, part)
			on(s.decks[0], func() {}) // a turn for it
		}
		writes.rekey(writes.expand("traffic upd", sha256.Size))
		writes.send(recordApplication, hello)
		if _, err := io.ReadFull(in, echoed); err != nil || string(echoed) != want {
			t.Fatalf("after update %d came %q, %v", i, echoed, err)
		}
	}
	writes.send(recordHandshake, "\x18\x00\x00\x01\x07") // is none
	if _, err := in.ReadByte(); err == nil || !strings.Contains(err.Error(), "remote error") {
		t.Errorf("a bad KeyUpdate is answered with %v", err)
	}
	s.empty(t)
}
