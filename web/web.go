// Package web is the page that a browser gets.
package web

import "embed"

// Files are the page's files: index.html, and what it asks for.
//
//go:embed index.html style.css icon.svg *.js
var Files embed.FS
