package mesh

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// portOwner tells which process listens on a TCP port. Other users' processes stay unnamed unless we are root.
func portOwner(port int) (string, bool) {
	inodes := make(map[string]bool)
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		listeningInodes(table, port, inodes)
	}
	if len(inodes) == 0 {
		return "", false
	}
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return "", false
	}
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil || !inodes[strings.TrimSuffix(strings.TrimPrefix(target, "socket:["), "]")] {
			continue
		}
		pid := strings.Split(link, "/")[2]
		return fmt.Sprintf("process %s (%s)", pid, processName(pid)), true
	}
	return "a process of another user", true
}

// listeningInodes adds the inodes of sockets in state LISTEN on the port; proc(5) has the columns.
func listeningInodes(table string, port int, inodes map[string]bool) {
	f, err := os.Open(table)
	if err != nil {
		return
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || fields[3] != "0A" {
			continue
		}
		_, hexPort, _ := strings.Cut(fields[1], ":")
		if p, err := strconv.ParseUint(hexPort, 16, 16); err == nil && int(p) == port {
			inodes[fields[9]] = true
		}
	}
}

func processName(pid string) string {
	if cmdline, err := os.ReadFile("/proc/" + pid + "/cmdline"); err == nil && len(cmdline) > 0 {
		return trim(strings.TrimSpace(strings.ReplaceAll(string(cmdline), "\x00", " ")), 100)
	}
	comm, err := os.ReadFile("/proc/" + pid + "/comm")
	if err != nil {
		return "ended meanwhile"
	}
	return strings.TrimSpace(string(comm))
}
