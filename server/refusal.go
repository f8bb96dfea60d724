package main

import (
	"errors"
	"fmt"

	"roverd/hardware"
)

// Codes of refusals, each of which PROTOCOL.md has a remedy for.
const (
	unknownCommand = "unknown_command"
	badJSON        = "bad_json"
	badValue       = "bad_value"
	isBinary       = "binary"
	tooFast        = "too_fast"
	badToken       = "bad_token"
	notAllowed     = "not_allowed"
	notDriver      = "not_driver"
	isClaimed      = "claimed"
	isRefused      = "refused"
	noClaim        = "no_claim"
	isStale        = "stale"
	isEStop        = "estop"
	isBlocked      = "blocked"
	noCamera       = "no_camera"
	isBusy         = "busy"
	isOff          = "off"
	hasFailed      = "failed"
	isClosed       = "closed" // the last word to a client that speaks lines
)

// wireError is a refusal as the client sees it.
type wireError struct {
	code, message string
}

func (e *wireError) Error() string { return e.message }

func refusal(code, format string, args ...any) error {
	return &wireError{code, fmt.Sprintf(format, args...)}
}

var errNotJSON = &wireError{badJSON, "the message begins like JSON, but is none"}

func appendError(dst []byte, id int64, err error) []byte {
	code := hasFailed
	var refusal *wireError
	switch {
	case errors.As(err, &refusal):
		code = refusal.code
	case errors.Is(err, hardware.ErrStale):
		code = isStale
	case errors.Is(err, hardware.ErrNoCamera):
		code = noCamera
	case errors.Is(err, hardware.ErrBusy), errors.Is(err, hardware.ErrLate):
		code = isBusy
	case errors.Is(err, hardware.ErrEStop):
		code = isEStop
	case errors.Is(err, hardware.ErrBlocked):
		code = isBlocked
	case errors.Is(err, hardware.ErrOff):
		code = isOff
	}
	m := struct {
		Op      string `json:"op"`
		ID      *int64 `json:"id,omitempty"`
		Code    string `json:"code"`
		Message string `json:"message"`
	}{"error", &id, code, err.Error()}
	if id == noID {
		m.ID = nil
	}
	return append(dst, encode(m)...)
}
