package authz

import (
	"maps"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// Compile makes the table of a server from what is registered on it, grpc.Server.GetServiceInfo. Descriptors come from
// files, nil means protoregistry.GlobalFiles. Allow holds the rules of methods that carry no annotation, by full method;
// features names the annotations that the guard can enforce beside requires_role and any_workload.
//
// It looks both ways: a registered method without a rule is a problem, and so is a rule or a descriptor's method that
// nothing is registered for. The error is of type Problems and lists all of them.
func Compile(info map[string]grpc.ServiceInfo, files Resolver, allow map[string]Rule, features []string) (*Table, error) {
	if files == nil {
		files = protoregistry.GlobalFiles
	}
	c := &compiler{allow: allow, features: features, methods: map[string]*compiled{}, coined: map[string]bool{}}
	var registered []protoreflect.ServiceDescriptor
	for _, name := range slices.Sorted(maps.Keys(info)) {
		s, err := findService(files, name)
		if err != nil {
			c.report(Problem{Subject: name, Text: err.Error()})
		}
		if s != nil {
			registered = append(registered, s)
		}
		c.service(name, info[name], s)
	}
	linked := linkedServices(files, registered)
	c.roles = defineRoles(linked, c.owners(registered), c.report)
	for _, full := range slices.Sorted(maps.Keys(c.methods)) {
		c.decide(full, c.methods[full])
	}
	for _, full := range slices.Sorted(maps.Keys(allow)) {
		if c.methods[full] == nil {
			c.report(Problem{Subject: full, Text: "Allow has a rule for a method that is not registered: register its service before Serve, or remove the rule"})
		}
	}
	if err := c.problems.sorted(); err != nil {
		return nil, err
	}
	return c.table(), nil
}

// compiler collects what Compile finds.
type compiler struct {
	allow    map[string]Rule
	features []string
	methods  map[string]*compiled // by full method
	roles    *definitions
	coined   map[string]bool // roles that an Allow defines
	problems Problems
}

// compiled is one registered method on its way into the table.
type compiled struct {
	method      Method
	descriptor  protoreflect.MethodDescriptor // nil if there is none
	annotations annotations
	malformed   bool // the annotations could not be used; already reported
}

func (c *compiler) report(p Problem) { c.problems = append(c.problems, p) }

// service compares what is registered with the service's descriptor, which may be nil, and reads the annotations.
func (c *compiler) service(name string, info grpc.ServiceInfo, s protoreflect.ServiceDescriptor) {
	for _, m := range info.Methods {
		full := "/" + name + "/" + m.Name
		if c.methods[full] != nil {
			c.report(Problem{Subject: full, Text: "registered twice in one service: gRPC would serve one of the two"})
			continue
		}
		method := &compiled{method: Method{Full: full, ClientStream: m.IsClientStream, ServerStream: m.IsServerStream}}
		c.methods[full] = method
		if s == nil {
			continue
		}
		d := s.Methods().ByName(protoreflect.Name(m.Name))
		if d == nil {
			c.report(Problem{Subject: full, Text: "registered, but not in the descriptor of its service: generate the code again"})
			method.malformed = true
			continue
		}
		if d.IsStreamingClient() != m.IsClientStream || d.IsStreamingServer() != m.IsServerStream {
			c.report(Problem{Subject: full, Text: "registered with other streams than its descriptor has: generate the code again"})
		}
		var problems []error
		method.descriptor = d
		method.annotations, problems = readMethod(d)
		for _, err := range problems {
			method.malformed = true
			c.report(Problem{Subject: full, Text: err.Error()})
		}
	}
	if s == nil {
		return
	}
	for i := range s.Methods().Len() {
		if full := "/" + name + "/" + string(s.Methods().Get(i).Name()); c.methods[full] == nil {
			c.report(Problem{Subject: full, Text: "in the descriptor of its service, but not registered: generate the code again"})
		}
	}
}

// owners returns every owner whose roles matter to this server.
func (c *compiler) owners(registered []protoreflect.ServiceDescriptor) map[string]bool {
	owners := map[string]bool{}
	for _, s := range registered {
		owners[ownerOfPackage(s.ParentFile().Package())] = true
	}
	for _, m := range c.methods {
		for _, name := range slices.Concat(m.annotations.roles, m.annotations.conditions.UserRoles) {
			owners[ownerOfRole(name)] = true
		}
	}
	for _, rule := range c.allow {
		for _, name := range rule.Roles {
			owners[ownerOfRole(name)] = true
		}
	}
	return owners
}

// decide gives a method its rule, or reports why it has none.
func (c *compiler) decide(full string, m *compiled) {
	own, isBuiltin := builtin(full)
	rule, isAllowed := c.allow[full]
	switch {
	case isAllowed && (isBuiltin || m.annotations.present):
		c.report(Problem{Subject: full, Text: "Allow has a rule for a method that says itself who may call it: remove the rule"})
	case isBuiltin && m.annotations.present:
		c.report(Problem{Subject: full, Text: "a method of gRPC's own services must not carry annotations: remove them"})
	case isBuiltin:
		m.method.Roles, m.method.AnyWorkload = own.Roles, own.AnyWorkload
	case isAllowed:
		c.allowed(full, m, rule)
	case m.malformed:
	case !m.annotations.anyWorkload && len(m.annotations.roles) == 0:
		c.report(c.missing(full, m))
	default:
		m.method.Roles, m.method.AnyWorkload = m.annotations.roles, m.annotations.anyWorkload
		m.method.Annotated = true
		m.method.Conditions = m.annotations.conditions
		m.method.Conditions.User = m.method.Conditions.User || len(m.method.Conditions.UserRoles) > 0
		for _, name := range m.method.Roles {
			c.defined(full, "requires_role", name)
		}
		for _, name := range m.method.Conditions.UserRoles {
			c.defined(full, "requires_user_role", name)
		}
	}
	c.enforced(full, m.annotations.conditions)
}
