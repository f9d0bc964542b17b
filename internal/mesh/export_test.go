package mesh

// Hold is what keeps others from a port.
var Hold = hold
