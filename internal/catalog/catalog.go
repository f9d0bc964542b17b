// Package catalog names the services that the rolecall binary holds: their ports, their SPIFFE IDs, and which of them call
// which. Commands that speak of "all services" speak of these.
package catalog

import (
	"fmt"
	"slices"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	keysv1 "example.com/rolecall/gen/keys/v1"
	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	ordersv1 "example.com/rolecall/gen/orders/v1"
	adminv1 "example.com/rolecall/gen/rolecall/admin/v1"
	rolecallv1 "example.com/rolecall/gen/rolecall/v1"
	tokensv1 "example.com/rolecall/gen/tokens/v1"
	usersv1 "example.com/rolecall/gen/users/v1"
)

const (
	// Tokens is the service that logs users in.
	Tokens = "tokens"
	// Keys is the service that tells which keys workloads sign with.
	Keys = "keys"
)

// AdminOffset is the distance from a service's port to its admin port.
const AdminOffset = 100

// Service is one gRPC service.
type Service struct {
	Name string
	// Offset is the distance from the base port to the service's port.
	Offset int
	// Peers are the names of the services that it calls.
	Peers []string
	// Database tells whether it keeps one.
	Database bool
	// Users tells whether people call it: it verifies their access tokens, for which it follows the service tokens.
	Users bool
	// Proofs tells whether it signs requests or verifies signed ones, for which it asks the service keys.
	Proofs bool
	// Descriptor is its Protobuf service.
	Descriptor protoreflect.ServiceDescriptor
}

// RequiresUser tells whether one of its methods can only be called on behalf of a user, so that it does not start unless it
// verifies access tokens.
func (s Service) RequiresUser() bool {
	return s.annotated(rolecallv1.E_RequiresUser, rolecallv1.E_RequiresUserRole)
}

// ExactlyOnce tells whether one of its methods takes effect once, for which it keeps outcomes in its database.
func (s Service) ExactlyOnce() bool { return s.annotated(rolecallv1.E_ExactlyOnce) }

// annotated tells whether one of its methods carries one of the annotations.
func (s Service) annotated(annotations ...protoreflect.ExtensionType) bool {
	methods := s.Descriptor.Methods()
	for i := range methods.Len() {
		for _, annotation := range annotations {
			if proto.HasExtension(methods.Get(i).Options(), annotation) {
				return true
			}
		}
	}
	return false
}

// ID returns the service's SPIFFE ID in a trust domain.
func (s Service) ID(td spiffeid.TrustDomain) spiffeid.ID { return ID(td, s.Name) }

// ID returns the SPIFFE ID of the service, or the agent, of that name.
func ID(td spiffeid.TrustDomain, name string) spiffeid.ID {
	return spiffeid.RequireFromSegments(td, "service", name)
}

// OperatorID returns the SPIFFE ID of the operator of that name.
func OperatorID(td spiffeid.TrustDomain, name string) spiffeid.ID {
	return spiffeid.RequireFromSegments(td, "operator", name)
}

// SupervisorID returns the SPIFFE ID with which `rolecall up` asks services for their health. It holds no role.
func SupervisorID(td spiffeid.TrustDomain) spiffeid.ID {
	return spiffeid.RequireFromSegments(td, "supervisor")
}

// Services returns all services in the order in which they start: authority first, then each after those that it calls.
// Those of users follow tokens, which may start later.
func Services() []Service {
	return []Service{
		{Name: "authority", Offset: 1, Descriptor: service(authorityv1.File_authority_v1_authority_proto)},
		{Name: "users", Offset: 3, Database: true, Users: true, Descriptor: service(usersv1.File_users_v1_users_proto)},
		{Name: Tokens, Offset: 4, Database: true, Peers: []string{"users"}, Descriptor: service(tokensv1.File_tokens_v1_tokens_proto)},
		{Name: Keys, Offset: 2, Database: true, Peers: []string{Tokens}, Descriptor: service(keysv1.File_keys_v1_keys_proto)},
		{Name: "ledger", Offset: 5, Database: true, Users: true, Proofs: true, Descriptor: service(ledgerv1.File_ledger_v1_ledger_proto)},
		{Name: "orders", Offset: 6, Database: true, Users: true, Proofs: true, Peers: []string{"users", "ledger"}, Descriptor: service(ordersv1.File_orders_v1_orders_proto)},
	}
}

// Named returns the service of that name.
func Named(name string) (Service, error) {
	all := Services()
	i := slices.IndexFunc(all, func(s Service) bool { return s.Name == name })
	if i < 0 {
		return Service{}, fmt.Errorf("no service %q: one of %v", name, Names())
	}
	return all[i], nil
}

// Names returns the names of all services, in the order of Services.
func Names() []string {
	var names []string
	for _, s := range Services() {
		names = append(names, s.Name)
	}
	return names
}

// Descriptors returns the Protobuf services of all services, and the one that every server has beside its own.
func Descriptors() []protoreflect.ServiceDescriptor {
	descriptors := []protoreflect.ServiceDescriptor{service(adminv1.File_rolecall_admin_v1_admin_proto)}
	for _, s := range Services() {
		descriptors = append(descriptors, s.Descriptor)
	}
	return descriptors
}

// service returns the one service of a file.
func service(file protoreflect.FileDescriptor) protoreflect.ServiceDescriptor {
	return file.Services().Get(0)
}
