package broker

import (
	"errors"
	"fmt"
)

// Code says what kind of refusal an error is. Codes are part of the wire contract; handlers turns each into a status.
type Code string

// The codes of the contract. CodeInternal never reaches the wire with its text.
const (
	CodeBadRequest      Code = "bad_request"
	CodeGrantExpired    Code = "grant_expired"
	CodeGrantInvalid    Code = "grant_invalid"
	CodeRevoked         Code = "revoked"
	CodeOriginDenied    Code = "origin_denied"
	CodeChannelDenied   Code = "channel_denied"
	CodeComponentDenied Code = "component_denied"
	CodeSubjectMismatch Code = "subject_mismatch"
	CodeNotFound        Code = "not_found"
	CodeIDTaken         Code = "id_taken"
	CodeTooLarge        Code = "too_large"
	CodeRateLimited     Code = "rate_limited"
	CodeUnavailable     Code = "unavailable"
	CodeStoreFull       Code = "store_full"
	CodeInternal        Code = "internal"
)

// Error is a refusal whose text may be shown to whoever asked: it never holds a secret or a library's message.
type Error struct {
	Code   Code
	Detail string
}

// Error implements error.
func (e *Error) Error() string { return e.Detail }

// Errorf makes an Error.
func Errorf(code Code, format string, args ...any) error {
	return &Error{Code: code, Detail: fmt.Sprintf(format, args...)}
}

// CodeOf finds the code in err's chain; an error without one is CodeInternal, nil is "".
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return CodeInternal
}
