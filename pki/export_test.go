package pki

// MemoryRoot makes a root that is in no file, so that no passphrase is stretched, which takes long on purpose.
var MemoryRoot = newRoot
