package authz

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// allowed checks a rule that was given in code and applies it. A role of the method's own package, which no linked
// service of that package defines, is defined by the rule: a foreign service has no option to define it with.
func (c *compiler) allowed(full string, m *compiled, rule Rule) {
	fail := func(err error) { c.report(Problem{Subject: full, Text: "Allow: " + err.Error()}) }
	if rule.AnyWorkload == (len(rule.Roles) > 0) {
		fail(errors.New("a rule has either Roles or AnyWorkload, exactly one of the two"))
		return
	}
	names := slices.Sorted(slices.Values(rule.Roles))
	for i, name := range names {
		if err := checkRoleName(name); err != nil {
			fail(err)
			return
		}
		if i > 0 && names[i-1] == name {
			fail(fmt.Errorf("role %q is there twice: remove one", name))
			return
		}
		owner := ownerOfRole(name)
		if _, ok := c.roles.roles[name]; !ok && owner == ownerOfMethod(full) && len(c.roles.of(owner)) == 0 {
			c.coined[name] = true
			continue
		}
		c.defined(full, "Allow", name)
	}
	m.method.Roles, m.method.AnyWorkload = names, rule.AnyWorkload
}

// ownerOfMethod returns the owner of a full method's package.
func ownerOfMethod(full string) string {
	service, _, _ := strings.Cut(strings.TrimPrefix(full, "/"), "/")
	return ownerOfPackage(protoreflect.FullName(service).Parent())
}

// featureOf names the feature that enforces an annotation.
func featureOf(annotation string) string {
	switch annotation {
	case "requires_user", "requires_user_role":
		return "usertoken"
	case "requires_proof":
		return "proof"
	case "exactly_once":
		return "exactlyonce"
	}
	return "unknown"
}

// enforced reports every condition of a method that no feature of the guard enforces: declared and ignored would be
// worse than not declared.
func (c *compiler) enforced(full string, conditions Conditions) {
	for _, annotation := range []string{"requires_user_role", "requires_user", "requires_proof", "exactly_once"} {
		if conditions.Has(annotation) && !slices.Contains(c.features, annotation) {
			c.report(Problem{Subject: full, Text: fmt.Sprintf(
				"%[1]s needs the feature %[2]q, which this guard was not given: add interceptors.With(%[2]s.New(...)), or remove the option",
				annotation, featureOf(annotation))})
		}
	}
}
