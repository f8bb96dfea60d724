package main

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

// page serves the files that a browser gets, by their paths.
type page map[string]*pageFile

type pageFile struct {
	contentType    string
	plain, gzipped *representation // gzipped is nil where it would not be smaller
}

type representation struct {
	bytes []byte
	etag  string // of these bytes, so that no two representations share one (RFC 9110 section 8.8.3.3)
}

func newRepresentation(p []byte) *representation {
	sum := sha256.Sum256(p)
	return &representation{p, fmt.Sprintf(`"%x"`, sum[:16])}
}

// contentTypes are those that http.DetectContentType can't tell. (The computer's tables, which mime.TypeByExtension reads,
// take 700 KB, and may say something else.)
var contentTypes = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
}

// newPage compresses what can be, once. Its errors would be mistakes of the build.
func newPage(files fs.FS) page {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		panic(err)
	}
	p := page{}
	var small bytes.Buffer
	zip, _ := gzip.NewWriterLevel(&small, gzip.BestCompression) // fails for unknown levels only
	for _, entry := range entries {
		plain, err := fs.ReadFile(files, entry.Name())
		if err != nil {
			panic(err)
		}
		f := &pageFile{
			contentType: cmp.Or(contentTypes[path.Ext(entry.Name())], http.DetectContentType(plain)),
			plain:       newRepresentation(plain),
		}
		small.Reset()
		zip.Reset(&small)
		zip.Write(plain) // a buffer takes all
		zip.Close()
		if small.Len() < len(plain) {
			f.gzipped = newRepresentation(bytes.Clone(small.Bytes()))
		}
		p["/"+entry.Name()] = f
	}
	p["/"] = p["/index.html"] // its one address, which asks for the token
	delete(p, "/index.html")
	debug.FreeOSMemory() // the compressor had a megabyte
	return p
}

func (p page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f := p[r.URL.Path]
	if f == nil {
		http.NotFound(w, r)
		return
	}
	unit, ranges, _ := strings.Cut(r.Header.Get("Range"), "=")
	r.Header.Del("Range") // it is ignored, but for GET and a unit that is known (RFC 9110 section 14.2)
	if r.Method == http.MethodGet && strings.EqualFold(unit, "bytes") {
		r.Header.Set("Range", "bytes="+ranges)
	}
	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("Cache-Control", "no-cache") // keep it, but ask: another roverd may answer next time
	sent := f.plain
	if f.gzipped != nil {
		h.Set("Vary", "Accept-Encoding")
		// Parts are of the plain file: multipart/byteranges has no place to say that its parts are compressed.
		if acceptsGzip(r) && r.Header.Get("Range") == "" {
			sent = f.gzipped
			h.Set("Content-Encoding", "gzip")
			// ServeContent leaves it to us where there is an encoding. But If-Match may have it answer without the body.
			if r.Header.Get("If-Match") == "" {
				h.Set("Content-Length", strconv.Itoa(len(sent.bytes)))
			}
		}
	}
	h.Set("ETag", sent.etag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(sent.bytes))
}

// acceptsGzip reads Accept-Encoding (RFC 9110 sections 12.5.3 and 8.4.1.3). Who names gzip with a weight of zero does not
// want it.
func acceptsGzip(r *http.Request) bool {
	for coding := range strings.SplitSeq(strings.Join(r.Header.Values("Accept-Encoding"), ","), ",") {
		if name, params, err := mime.ParseMediaType(coding); err == nil && (name == "gzip" || name == "x-gzip") {
			weight, err := strconv.ParseFloat(cmp.Or(params["q"], "1"), 32)
			return err == nil && weight > 0
		}
	}
	return false
}
