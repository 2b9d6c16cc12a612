package githubtest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path"
	"strconv"
	"strings"
	"time"
)

// Fault answers in place of the API, or after it.
type Fault func(w http.ResponseWriter, r *http.Request, next http.Handler)

type injected struct {
	pattern string
	fault   Fault
}

// Inject lets the next requests that match a pattern fail, one a fault. The
// pattern is a method and a path, "POST /repos/*/*/issues/*/comments", where *
// is anything without a slash; the query does not count.
func (s *Server) Inject(pattern string, faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range faults {
		s.faults = append(s.faults, injected{pattern, f})
	}
}

// Pending counts the faults that nobody ran into.
func (s *Server) Pending() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.faults)
}

func (s *Server) takeFault(what string) Fault {
	what, _, _ = strings.Cut(what, "?")
	for i, f := range s.faults {
		if ok, _ := path.Match(f.pattern, what); ok {
			s.faults = append(s.faults[:i:i], s.faults[i+1:]...)
			return f.fault
		}
	}
	return nil
}

// Status answers with a status and a message. Further headers are name, value.
func Status(code int, message string, header ...string) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		refuse(w, code, message)
	}
}

// Secondary is the limit on doing too much at once, with the seconds to wait.
func Secondary(seconds int) Fault {
	return Status(http.StatusForbidden, "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.",
		"Retry-After", strconv.Itoa(seconds))
}

// Primary is the limit on the requests of an hour, that ends in some time.
func Primary(d time.Duration) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		now, _ := http.ParseTime(w.Header().Get("Date"))
		w.Header().Set("X-Ratelimit-Limit", "1000")
		w.Header().Set("X-Ratelimit-Remaining", "0")
		w.Header().Set("X-Ratelimit-Reset", strconv.FormatInt(now.Add(d).Unix(), 10))
		refuse(w, http.StatusForbidden, "API rate limit exceeded for installation ID 1.")
	}
}

// Integration is what a token without the permission is told.
var Integration = Status(http.StatusForbidden, "Resource not accessible by integration")

// Page answers in plain text, as servers do on a path that they do not know.
func Page(code int, text string) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(code)
		_, _ = w.Write([]byte(text))
	}
}

// Reset breaks the connection off without an answer.
func Reset(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) }

// After lets the API do its work and then answers with another fault: the
// answer is lost, the work is done.
func After(fault Fault) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(httptest.NewRecorder(), r)
		fault(w, r, next)
	}
}

func refuse(w http.ResponseWriter, code int, message string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]string{
		"message": message, "documentation_url": "https://docs.github.com/rest", "status": strconv.Itoa(code),
	})
}
