package docker

import (
	"encoding/json"
	"fmt"
	"io"
)

// message is one line of the engine's JSON streams.
type message struct {
	Stream string          `json:"stream"`
	Status string          `json:"status"`
	Error  string          `json:"error"`
	Detail *messageError   `json:"errorDetail"`
	Aux    json.RawMessage `json:"aux"`
}

type messageError struct {
	Message string `json:"message"`
}

// saidError is an error in the engine's words: so the engine was reached, even
// if what it speaks of is a lost connection.
type saidError string

func (e saidError) Error() string { return string(e) }

// readMessages hands every message to visit and ends with the stream, or with
// the error it reports.
func readMessages(r io.Reader, visit func(message)) error {
	decoder := json.NewDecoder(r)
	for {
		var m message
		err := decoder.Decode(&m)
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("reading the engine's answer: %w", err)
		case m.Detail != nil && m.Detail.Message != "":
			return saidError(m.Detail.Message)
		case m.Error != "":
			return saidError(m.Error)
		}
		visit(m)
	}
}
