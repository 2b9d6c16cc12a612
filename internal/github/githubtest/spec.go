package githubtest

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
)

//go:embed testdata/github.json
var description []byte

// spec is GitHub's description of its API.
type spec struct {
	doc     *openapi3.T
	samples map[string][]byte
}

var loaded = sync.OnceValues(func() (*spec, error) {
	doc, err := openapi3.NewLoader().LoadFromData(description)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"pull-request", "pull-request-simple"} {
		// The description forgets that the head's repository may have been deleted.
		head := doc.Components.Schemas[name].Value.Properties["head"].Value
		repo := *head.Properties["repo"].Value
		repo.Nullable = true
		head.Properties["repo"] = &openapi3.SchemaRef{Value: &repo}
	}
	s := &spec{doc: doc, samples: map[string][]byte{}}
	for name, example := range doc.Components.Examples {
		if s.samples[name], err = json.Marshal(example.Value.Value); err != nil {
			return nil, err
		}
	}
	return s, nil
})

func load(t testing.TB) *spec {
	t.Helper()
	s, err := loaded()
	if err != nil {
		t.Fatalf("GitHub's API description: %v", err)
	}
	return s
}

// sample is an answer as GitHub's documentation shows it, to be filled in.
func (s *spec) sample(name string) map[string]any {
	var out map[string]any
	data := s.samples[name]
	if bytes.HasPrefix(data, []byte("[")) {
		var list []map[string]any
		_ = json.Unmarshal(data, &list)
		return list[0]
	}
	_ = json.Unmarshal(data, &out)
	return out
}

// checked wraps the handler of one operation: a request or an answer that the
// description does not allow is an error of the test.
func (s *Server) checked(path string, item *openapi3.PathItem, method string, next http.HandlerFunc) http.HandlerFunc {
	route := &routers.Route{Spec: s.spec.doc, Path: path, PathItem: item, Method: method, Operation: item.GetOperation(method)}
	return func(w http.ResponseWriter, r *http.Request) {
		if s.Unchecked {
			next(w, r)
			return
		}
		in := &openapi3filter.RequestValidationInput{
			Request: r, PathParams: params(path, r), Route: route,
			Options: &openapi3filter.Options{IncludeResponseStatus: true, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
		}
		if err := openapi3filter.ValidateRequest(r.Context(), in); err != nil {
			s.t.Errorf("request %s %s: %v", r.Method, r.URL, err)
		}
		answer := httptest.NewRecorder()
		next(answer, r)
		out := &openapi3filter.ResponseValidationInput{
			RequestValidationInput: in, Status: answer.Code, Header: answer.Header(),
			Body: io.NopCloser(bytes.NewReader(answer.Body.Bytes())), Options: in.Options,
		}
		// GitHub describes not every refusal it gives.
		if err := openapi3filter.ValidateResponse(r.Context(), out); err != nil && answer.Code < 400 {
			s.t.Errorf("answer %d to %s %s: %v", answer.Code, r.Method, r.URL, err)
		}
		for name, values := range answer.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
	}
}

// params are the values of a path's placeholders.
func params(path string, r *http.Request) map[string]string {
	out := map[string]string{}
	for part := range strings.SplitSeq(path, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			name = strings.TrimSuffix(name, "}")
			out[name] = r.PathValue(name)
		}
	}
	return out
}
