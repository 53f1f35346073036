package cacheprog_test

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"slices"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// schemas compiles the parts of docs/protocol/schema.json.
func schemas(t *testing.T) func(part string) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	c.AssertContent()
	return func(part string) *jsonschema.Schema {
		s, err := c.Compile(filepath.Join("..", "docs", "protocol", "schema.json") + "#/$defs/" + part)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

// answerTo is the part of the schema for the answer to a command.
var answerTo = map[string]string{"start": "first", "get": "answerToGet", "put": "answerToPut", "close": "answerToClose"}

// validate returns what is wrong with a message.
func validate(s *jsonschema.Schema, message []byte) error {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(message))
	if err != nil {
		return err
	}
	return s.Validate(v)
}

// notInSchema are sessions with messages that no program should send.
var notInSchema = []string{
	"fault-none-known", "fault-first-id", "fault-first-text", "fault-text", "fault-get-no-path", "fault-put-no-path", "fault-long-id",
}

// TestSchemaSessions validates what was recorded, and sees the schema refuse what programs have done wrong.
func TestSchemaSessions(t *testing.T) {
	schema := schemas(t)
	for _, s := range readSessions(t) {
		commands := map[int64]string{0: "start"}
		var refused []error
		for _, e := range s.events {
			switch {
			case e.End:
			case e.From == "go":
				q := decodeRequest(t, e.Raw)
				commands[q.ID] = q.Command
				line, body, _ := bytes.Cut([]byte(e.Raw), []byte("\n\n"))
				if err := validate(schema("request"), line); err != nil {
					t.Errorf("%s/%s: %s: %v", s.Go, s.Name, line, err)
				}
				if q.BodySize > 0 {
					if err := validate(schema("body"), body); err != nil {
						t.Errorf("%s/%s: body: %v", s.Go, s.Name, err)
					}
				}
			default:
				var a struct{ ID int64 }
				_ = json.Unmarshal([]byte(e.Raw), &a) // what is no JSON is refused below
				if command, ok := commands[a.ID]; ok {
					if err := validate(schema(answerTo[command]), []byte(e.Raw)); err != nil {
						refused = append(refused, err)
					}
				} else if s.Name == "fault-first-id" {
					refused = append(refused, validate(schema("first"), []byte(e.Raw)))
				}
			}
		}
		if bad := slices.Contains(notInSchema, s.Name); bad != (len(refused) > 0) || slices.Contains(refused, nil) {
			t.Errorf("%s/%s: the schema refuses %v", s.Go, s.Name, refused)
		}
	}
}

// beyondSchema are responses that a schema cannot refuse: it does not know what was asked, nor that 5.0 is no integer here.
var beyondSchema = []string{"id-unknown", "size-fraction", "size-exponent", "id-fraction"}

// TestSchemaVectors validates the hand-written vectors.
func TestSchemaVectors(t *testing.T) {
	schema := schemas(t)
	good := func(mark *bool) bool { return mark == nil || *mark }

	var requests requestVectors
	readVectors(t, "requests.json", &requests)
	for _, c := range requests.Cases {
		d := json.NewDecoder(bytes.NewReader(c.Send.bytes()))
		var err error
		for d.More() && err == nil {
			var message json.RawMessage
			if err = d.Decode(&message); err == nil {
				part := "request"
				if message[0] == '"' {
					part = "body"
				}
				err = validate(schema(part), message)
			}
		}
		wrongBody := slices.ContainsFunc(c.Want, func(w requestWanted) bool { return w.Error && w.Command == "put" })
		if (err == nil) != good(c.Schema) && !wrongBody {
			t.Errorf("%s: %v", c.Name, err)
		}
	}

	var responses responseVectors
	readVectors(t, "responses.json", &responses)
	for _, c := range responses.Cases {
		send := c.Send.bytes()
		d := json.NewDecoder(bytes.NewReader(send))
		var message json.RawMessage
		err := d.Decode(&message)
		if err == nil && d.More() {
			err = d.Decode(new(int)) // more than one message is none
		}
		if err == nil {
			err = validate(schema(answerTo[c.To]), message)
		}
		if (err == nil) != good(c.Schema) && !slices.Contains(beyondSchema, c.Name) {
			t.Errorf("%s: %v", c.Name, err)
		}
	}
}
