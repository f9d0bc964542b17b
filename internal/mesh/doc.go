// Package mesh knows the folder that `rolecall up` runs a mesh in: where each file lies, which layout version it has, who
// runs it, and mesh.json, which tells other programs how to reach what runs.
//
//	dir, err := mesh.Create(".rolecall")     // 0700, own .gitignore, layout version
//	lock, err := mesh.Acquire(dir)           // *RunningError names who has it
//	err = mesh.Write(dir, file)              // mesh.json, once everything is SERVING
//
// It starts no processes (supervisor does) and signs no certificates (pki does).
package mesh
