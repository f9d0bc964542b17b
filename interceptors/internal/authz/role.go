package authz

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	rolecallv1 "example.com/rolecall/gen/rolecall/v1"
)

// Role is the definition of a role by the service that owns it.
type Role struct {
	Name        string
	Description string
	Includes    []string // sorted; direct ones only
}

// maxRoleName bounds a role's name, in bytes.
const maxRoleName = 255

var (
	// roleName: the owner, a dot, and one lower-case word.
	roleName = regexp.MustCompile(`^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+$`)
	// versionSegment is the last segment of a versioned package, as `buf lint` reads it: v1, v1beta1, v1p1alpha1, v1test.
	versionSegment = regexp.MustCompile(`^v[1-9][0-9]*(p[1-9][0-9]*)?((alpha|beta)[0-9]*|test[a-z0-9]*)?$`)
)

// checkRoleName reports a name that no role can have.
func checkRoleName(name string) error {
	switch {
	case name == "":
		return errors.New("the role's name is empty")
	case len(name) > maxRoleName:
		return fmt.Errorf("the role's name has %d bytes, %d are allowed", len(name), maxRoleName)
	case !roleName.MatchString(name):
		return fmt.Errorf("%q is not a role's name: that is the owning package without its version, a dot and one lower-case word, as in ledger.writer; there are no patterns", name)
	}
	return nil
}

// ownerOfRole returns what is before the last dot of a valid role name.
func ownerOfRole(name string) string {
	return name[:max(strings.LastIndexByte(name, '.'), 0)]
}

// ownerOfPackage returns a proto package without its version: "ledger" for ledger.v1 and for ledger.
func ownerOfPackage(pkg protoreflect.FullName) string {
	if versionSegment.MatchString(string(pkg.Name())) {
		return string(pkg.Parent())
	}
	return string(pkg)
}

// readRoles reads the roles that a service defines, and reports everything that is wrong with them on their own.
func readRoles(s protoreflect.ServiceDescriptor) ([]Role, []error) {
	options := &descriptorpb.ServiceOptions{}
	if err := reread(s.Options(), options); err != nil {
		return nil, []error{err}
	}
	if len(options.GetUninterpretedOption()) > 0 {
		return nil, []error{errUninterpreted}
	}
	owner := ownerOfPackage(s.ParentFile().Package())
	var roles []Role
	var problems []error
	for _, r := range proto.GetExtension(options, rolecallv1.E_Role).([]*rolecallv1.Role) {
		role := Role{Name: r.GetName(), Description: r.GetDescription(), Includes: slices.Clone(r.GetIncludes())}
		slices.Sort(role.Includes)
		if err := checkRole(r, owner); err != nil {
			problems = append(problems, err)
			continue
		}
		if slices.ContainsFunc(roles, func(other Role) bool { return other.Name == role.Name }) {
			problems = append(problems, fmt.Errorf("role %q is defined twice: remove one", role.Name))
			continue
		}
		roles = append(roles, role)
	}
	return roles, problems
}

// checkRole reports what is wrong with one definition, whatever other roles there are.
func checkRole(r *rolecallv1.Role, owner string) error {
	if err := checkRoleName(r.GetName()); err != nil {
		return fmt.Errorf("option role: %w", err)
	}
	if ownerOfRole(r.GetName()) != owner {
		return fmt.Errorf("role %q is not owned here: a role of this service is named %q and one lower-case word", r.GetName(), owner+".")
	}
	if len(r.ProtoReflect().GetUnknown()) > 0 {
		return fmt.Errorf("role %q has a field that means nothing to this version: update rolecall, or remove the field", r.GetName())
	}
	seen := map[string]bool{}
	for _, name := range r.GetIncludes() {
		switch err := checkRoleName(name); {
		case err != nil:
			return fmt.Errorf("includes of role %q: %w", r.GetName(), err)
		case name == r.GetName():
			return fmt.Errorf("role %q includes itself", name)
		case ownerOfRole(name) != owner:
			return fmt.Errorf("role %q includes %q of another owner: only roles of %q can be included", r.GetName(), name, owner)
		case seen[name]:
			return fmt.Errorf("role %q includes %q twice: remove one", r.GetName(), name)
		}
		seen[name] = true
	}
	return nil
}
