// Package web is the page that a browser gets.
package web

import (
	"embed"
	"html/template"
)

// Files are the page's files: index.html, and what it asks for.
//
//go:embed index.html style.css icon.svg *.js
var Files embed.FS

//go:embed login.html
var login string

// Login is the page of who has no token, or a wrong one. It is executed with what is wrong, if anything was shown.
var Login = template.Must(template.New("login").Parse(login))
