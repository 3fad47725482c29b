package handlers

import (
	"fmt"
	"strings"
)

// clip keeps what a client sent from filling an answer or a log line.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return fmt.Sprintf("%s… (%d bytes)", strings.ToValidUTF8(s[:most], ""), len(s))
}
