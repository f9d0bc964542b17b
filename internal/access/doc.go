// Package access shows who may call what: a roles.yaml held against the services that it is for, as a matrix and as a list of
// what its author may not have meant. `rolecall roles` prints it.
//
//	policy, err := access.Read("roles.yaml", nil)
//	access.NewMatrix(policy).Table().Write(out)
//
// What it shows is what interceptors.ReadPolicy says; it decides nothing itself.
package access
