package authz

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// annotationsFile is what a proto file imports to use the annotations.
const annotationsFile = "rolecall/v1/access.proto"

// missing is the problem of a method without a rule: with the option to paste where the file knows our annotations, with
// the Allow to paste where there is no file to change, and with both where only the reader knows whose file it is.
func (c *compiler) missing(full string, m *compiled) Problem {
	allow := func(role string) string {
		return fmt.Sprintf("interceptors.Allow(%q, interceptors.Rule{Roles: []string{%q}})", full, role)
	}
	role, define := c.suggestion(ownerOfMethod(full))
	if m.descriptor == nil {
		return Problem{Subject: full, Text: "no policy, and no descriptor that could hold one: give the guard the option", Snippet: allow(role)}
	}
	option := fmt.Sprintf("option (rolecall.v1.requires_role) = %q;", role)
	text := fmt.Sprintf("no policy: say in rpc %s of %s who may call it", m.descriptor.Name(), m.descriptor.ParentFile().Path())
	if c.annotated(m.descriptor.Parent().(protoreflect.ServiceDescriptor)) {
		if define != "" {
			text += "; the role is new, so service " + string(m.descriptor.Parent().Name()) + " defines it, once"
			option = define + "\n" + option
		}
		return Problem{Subject: full, Text: text, Snippet: option}
	}
	var lines []string
	lines = append(lines, fmt.Sprintf("import %q;", annotationsFile))
	if define != "" {
		lines = append(lines, define)
	}
	lines = append(lines, option, allow(role))
	return Problem{
		Subject: full,
		Text:    text + " (the file imports the annotations, the service defines the role, each once); or, if the file is not yours, give the guard the option in the last line",
		Snippet: strings.Join(lines, "\n"),
	}
}

// suggestion returns a role for a method of an owner, and the option that defines it if the owner has no role yet. An
// owner that can own none, for want of a package or of lower case, gets a form to fill in.
func (c *compiler) suggestion(owner string) (role, define string) {
	if role, ok := c.roles.suggest(owner); ok {
		return role, ""
	}
	role = owner + ".caller"
	if checkRoleName(role) != nil {
		return "<owner>.<role>", ""
	}
	return role, fmt.Sprintf("option (rolecall.v1.role) = {name: %q description: \"Call every method.\"};", role)
}

// annotated reports whether a service's file belongs to someone who uses the annotations.
func (c *compiler) annotated(s protoreflect.ServiceDescriptor) bool {
	imports := s.ParentFile().Imports()
	for i := range imports.Len() {
		if imports.Get(i).Path() == annotationsFile {
			return true
		}
	}
	for i := range s.Methods().Len() {
		full := "/" + string(s.FullName()) + "/" + string(s.Methods().Get(i).Name())
		if m := c.methods[full]; m != nil && m.annotations.present {
			return true
		}
	}
	return len(c.roles.of(ownerOfPackage(s.ParentFile().Package()))) > 0
}

// defined reports a role that no linked service of its owner defines.
func (c *compiler) defined(full, where, name string) {
	if _, ok := c.roles.roles[name]; ok {
		return
	}
	owner := ownerOfRole(name)
	if c.roles.failed[owner] {
		return // the definition may be one of those that were already reported
	}
	if !c.roles.linked[owner] {
		c.report(Problem{Subject: full, Text: fmt.Sprintf(
			"%s %q: no service of package %q is linked into this program: import its generated code, or correct the name", where, name, owner)})
		return
	}
	text := fmt.Sprintf("%s %q is not defined", where, name)
	if known := c.roles.of(owner); len(known) > 0 {
		text += " (defined are " + strings.Join(known, ", ") + ")"
	}
	c.report(Problem{
		Subject: full,
		Text:    text + ": correct the name, or define the role in its service",
		Snippet: fmt.Sprintf("option (rolecall.v1.role) = {name: %q description: \"...\"};", name),
	})
}
