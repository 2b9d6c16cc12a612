package docker

import (
	"encoding/json"
	"errors"
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
			return errors.New(m.Detail.Message)
		case m.Error != "":
			return errors.New(m.Error)
		}
		visit(m)
	}
}
