package webhooks

import (
	"net/http"
	"strings"
	"time"
)

// What a receiver may ask for with Retry-After. A year would be a way to lose a delivery, zero one to burn its tries.
const (
	minRetryAfter = time.Second
	maxRetryAfter = 24 * time.Hour
)

// parseRetryAfter reads the header (RFC 9110, section 10.2.3: seconds or a date), clamped to 1 s … 24 h; 0 if there is
// none or it cannot be read.
func parseRetryAfter(header string, now time.Time) time.Duration {
	header = strings.TrimSpace(header)
	if header == "" {
		return 0
	}
	if seconds, ok := parseSeconds(header); ok {
		return clampRetryAfter(seconds)
	}
	date, err := http.ParseTime(header)
	if err != nil {
		return 0
	}
	return clampRetryAfter(date.Sub(now)) // Sub saturates
}

// parseSeconds reads digits alone; what a Duration cannot hold is as good as the longest wait.
func parseSeconds(s string) (time.Duration, bool) {
	const enough = int64(maxRetryAfter / time.Second)
	var n int64
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = min(n*10+int64(s[i]-'0'), enough)
	}
	return time.Duration(n) * time.Second, true
}

func clampRetryAfter(d time.Duration) time.Duration { return min(max(d, minRetryAfter), maxRetryAfter) }
