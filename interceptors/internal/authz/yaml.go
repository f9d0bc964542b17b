package authz

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// maxReported bounds how many mistakes of one file are told.
const maxReported = 20

// reader reads one YAML document into a message, strictly: a YAML file here is nested maps with the message's JSON
// names, lists and text, each key once, and nothing else of what YAML can do.
type reader struct {
	problems []error
	dropped  int
}

// parseYAML returns the top node of the only document in data.
func parseYAML(data []byte) (*yaml.Node, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("not UTF-8 text")
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document, second yaml.Node
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return nil, errors.New("the file is empty: at least trustDomain is needed")
	case err != nil:
		return nil, fmt.Errorf("%s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	switch err := decoder.Decode(&second); {
	case err == nil:
		return nil, fmt.Errorf("%s: a second document: only one is allowed", position(&second))
	case !errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	return document.Content[0], nil
}

// position returns "line:column" of a node.
func position(n *yaml.Node) string { return fmt.Sprintf("%d:%d", n.Line, n.Column) }

// fail notes a mistake at a node.
func (r *reader) fail(n *yaml.Node, format string, args ...any) {
	if len(r.problems) == maxReported {
		r.dropped++
		return
	}
	r.problems = append(r.problems, fmt.Errorf(position(n)+": "+format, args...))
}

// err returns all mistakes as one error, or nil.
func (r *reader) err() error {
	if r.dropped > 0 {
		return errors.Join(append(r.problems, fmt.Errorf("and %d more", r.dropped))...)
	}
	return errors.Join(r.problems...)
}

// plain reports whether a node has the wanted kind and nothing that changes the meaning of what is read: anchors,
// aliases and tags let one place of a file decide about another, where nobody who reviews a binding would look.
func (r *reader) plain(n *yaml.Node, want yaml.Kind, what string) bool {
	switch {
	case n.Kind == yaml.AliasNode:
		r.fail(n, "an alias (*%s): write the value out", n.Value)
	case n.Anchor != "":
		r.fail(n, "an anchor (&%s): remove it", n.Anchor)
	case n.Style&yaml.TaggedStyle != 0:
		r.fail(n, "a tag (%s): remove it", n.Tag)
	case n.Kind == want:
		return true
	case n.Tag == "!!null":
		r.fail(n, "no value: %s is needed here", what)
	default:
		r.fail(n, "%s is needed here, not %s", what, kindName(n.Kind))
	}
	return false
}

func kindName(k yaml.Kind) string {
	switch k {
	case yaml.MappingNode:
		return "keys with values"
	case yaml.SequenceNode:
		return "a list"
	default:
		return "a single value"
	}
}

// message reads a map into m.
func (r *reader) message(n *yaml.Node, m protoreflect.Message) {
	if !r.plain(n, yaml.MappingNode, "a map of keys and values") {
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Tag == "!!merge" {
			r.fail(key, "a merge (<<): write the keys out")
			continue
		}
		if !r.plain(key, yaml.ScalarNode, "a key") {
			continue
		}
		field := m.Descriptor().Fields().ByJSONName(key.Value)
		switch {
		case field == nil:
			r.fail(key, "unknown key %q: allowed are %s", key.Value, allowedKeys(m.Descriptor()))
		case seen[key.Value]:
			r.fail(key, "key %q is there twice: remove one", key.Value)
		default:
			seen[key.Value] = true
			r.field(value, m, field)
		}
	}
}

// allowedKeys returns the JSON names of a message's fields, sorted.
func allowedKeys(d protoreflect.MessageDescriptor) string {
	var names []string
	for i := range d.Fields().Len() {
		names = append(names, d.Fields().Get(i).JSONName())
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// field reads the value of one key.
func (r *reader) field(n *yaml.Node, m protoreflect.Message, field protoreflect.FieldDescriptor) {
	if !field.IsList() {
		if text, ok := r.text(n); ok {
			m.Set(field, protoreflect.ValueOfString(text))
		}
		return
	}
	if !r.plain(n, yaml.SequenceNode, "a list") {
		return
	}
	list := m.Mutable(field).List()
	for _, item := range n.Content {
		if field.Message() != nil {
			r.message(item, list.AppendMutable().Message())
			continue
		}
		text, _ := r.text(item)
		list.Append(protoreflect.ValueOfString(text))
	}
}

// text reads a string that is not empty. What YAML would read as a number, a date or a truth value must be quoted, so
// that nothing depends on which version of YAML a reader knows.
func (r *reader) text(n *yaml.Node) (string, bool) {
	if !r.plain(n, yaml.ScalarNode, "text") {
		return "", false
	}
	switch {
	case n.Tag == "!!null":
		r.fail(n, "no value: text is needed here")
	case n.Tag != "!!str":
		r.fail(n, "%s is a %s for YAML: write it in quotes", n.Value, strings.TrimPrefix(n.Tag, "!!"))
	case n.Value == "":
		r.fail(n, "the text is empty: write a value, or remove the key")
	default:
		return n.Value, true
	}
	return "", false
}

// at returns the node that a path of keys and indices leads to from n, or n's nearest part where the path ends early.
func at(n *yaml.Node, path ...any) *yaml.Node {
	for _, step := range path {
		next := n
		switch step := step.(type) {
		case int:
			if n.Kind == yaml.SequenceNode && step < len(n.Content) {
				next = n.Content[step]
			}
		case string:
			for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
				if n.Content[i].Value == step {
					next = n.Content[i+1]
				}
			}
		}
		if next == n {
			return n
		}
		n = next
	}
	return n
}
