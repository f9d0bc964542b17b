package authz

// RoleReflector is the role that gRPC reflection asks for.
const RoleReflector = "rolecall.reflector"

// RoleAdmin is the role that rolecall.admin.v1 asks for.
const RoleAdmin = "rolecall.admin"

// builtinRoles are those that no service defines.
var builtinRoles = []Role{
	{Name: RoleReflector, Description: "List a server's services and read their descriptors by gRPC reflection."},
	{Name: RoleAdmin, Description: "Ask a running service about itself: which roots it trusts, which certificate it shows."},
}

// builtin returns the rule of a method of gRPC's own services, which carry no annotations and are part of most servers.
// Methods that a later gRPC adds to them have no rule here, and so need an explicit Allow.
func builtin(full string) (Rule, bool) {
	switch full {
	case "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/List", "/grpc.health.v1.Health/Watch":
		return Rule{AnyWorkload: true}, true
	case "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
		"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo":
		return Rule{Roles: []string{RoleReflector}}, true
	}
	return Rule{}, false
}
