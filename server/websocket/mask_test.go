package websocket

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/gobwas/ws"
)

// TestCipher compares with gobwas's at all lengths, alignments and offsets that matter.
func TestCipher(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for length := range 100 {
		for offset := range 4 {
			for _, high := range []byte{0x7f, 0xff} {
				plain := make([]byte, length+offset)
				for i := range plain {
					plain[i] = byte(rnd.Uint32()) & high
				}
				got, want := bytes.Clone(plain), bytes.Clone(plain)
				ws.Cipher(want, mask, 0)
				if cipher(got[offset:], mask, offset); !bytes.Equal(got[offset:], want[offset:]) {
					t.Fatalf("length %d, offset %d: got %x, want %x", length, offset, got[offset:], want[offset:])
				}
				ascii := true
				for _, b := range plain[offset:] {
					ascii = ascii && b < 0x80
				}
				if got := cipher(got[offset:], mask, offset); got != ascii {
					t.Errorf("%x is ASCII: %v", plain[offset:], got)
				}
			}
		}
	}
}
