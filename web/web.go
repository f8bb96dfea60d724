// Package web is the page that a browser gets.
package web

import "embed"

// Files are the page's files, index.html first.
//
//go:embed index.html app.js style.css icon.svg
var Files embed.FS
