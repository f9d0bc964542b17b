// Package run runs a program inside a mesh that is up: `rolecall run`. It registers its own process with the mesh's agent,
// so that this process and whatever it starts are one workload, tells the program where the Workload API is, notes it in
// mesh.json, passes signals on, and ends as the program ends.
//
//	err := run.Run(ctx, run.Config{Dir: dir, ID: "spiffe://mesh.local/service/billing", Command: []string{"go", "run", "."}, ...})
//
// The registration lives as long as this process: what the program leaves running ends with it.
package run
