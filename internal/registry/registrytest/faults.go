package registrytest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
)

// Status answers with a status code; header lists further headers as name,
// value.
func Status(code int, header ...string) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
	}
}

// Code answers as the registry specification wants errors to look.
func Code(status int, code, message string) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(map[string]any{"errors": []any{map[string]string{"code": code, "message": message}}})
	}
}

// Reset breaks the connection off without an answer.
func Reset(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) }

// ResetAfter reads n bytes of the request's body and breaks the connection
// off.
func ResetAfter(n int64) Fault {
	return func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
		io.CopyN(io.Discard, r.Body, n)
		panic(http.ErrAbortHandler)
	}
}

// Truncate promises the whole body, sends n bytes of it and breaks off.
func Truncate(n int) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		answer := recorded(r, next)
		send(w, answer, answer.Body.Bytes()[:min(n, answer.Body.Len())])
		panic(http.ErrAbortHandler)
	}
}

// Stall sends n bytes of the body and then nothing until the client gives up.
// A shorter body is sent whole. With n negative not even headers are sent.
func Stall(n int) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if n < 0 {
			io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
			return
		}
		answer := recorded(r, next)
		send(w, answer, answer.Body.Bytes()[:min(n, answer.Body.Len())])
		if n < answer.Body.Len() { // else the client may use the connection again, and its end is not seen
			<-r.Context().Done()
		}
	}
}

// Body replaces what the registry sends, and the length with it.
func Body(change func([]byte) []byte) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		answer := recorded(r, next)
		body := change(bytes.Clone(answer.Body.Bytes()))
		answer.Header().Set("Content-Length", fmt.Sprint(len(body)))
		send(w, answer, body)
	}
}

// Flip changes one bit of the body.
var Flip = Body(func(b []byte) []byte { b[len(b)/2] ^= 1; return b })

// Header sets a header of the registry's own answer.
func Header(name, value string) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		answer := recorded(r, next)
		answer.Header().Set(name, value)
		send(w, answer, answer.Body.Bytes())
	}
}

// After lets the registry do its work and then answers with another fault: the
// answer is lost, the work is done.
func After(fault Fault) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		recorded(r, next)
		fault(w, r, next)
	}
}

// Redirect sends the client elsewhere; the path is kept.
func Redirect(base string) Fault {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		http.Redirect(w, r, base+r.URL.RequestURI(), http.StatusTemporaryRedirect)
	}
}

// Basic asks for a name and a password.
func Basic(user, password string) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if u, p, ok := r.BasicAuth(); ok && u == user && p == password {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		Code(http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")(w, r, next)
	}
}

// Bearer asks for the token, which a token server at realm gives.
func Bearer(realm, token string) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.HasPrefix(r.URL.Path, "/token") || r.Header.Get("Authorization") == "Bearer "+token {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf("Bearer realm=%q,service=%q", realm, "test"))
		Code(http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")(w, r, next)
	}
}

// Token is a token server: it wants the name and password, or nothing if user
// is empty.
func Token(user, password, token string) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if u, p, _ := r.BasicAuth(); u != user || p != password {
			Code(http.StatusUnauthorized, "UNAUTHORIZED", "wrong password")(w, r, next)
			return
		}
		json.NewEncoder(w).Encode(map[string]string{"token": token})
	}
}

func recorded(r *http.Request, next http.Handler) *httptest.ResponseRecorder {
	answer := httptest.NewRecorder()
	next.ServeHTTP(answer, r)
	return answer
}

func send(w http.ResponseWriter, answer *httptest.ResponseRecorder, body []byte) {
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	w.Write(body)
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
}
