package main

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// databaseFileUsage describes the flag --database-file.
const databaseFileUsage = "file that holds the URL for --database, which other users can read on a command line"

// databaseURL returns the value of --database, or, if --database-file is given, the line that the file holds.
func databaseURL(value, file string) (string, error) {
	if file == "" {
		return value, nil
	}
	line, err := readLine(file)
	if err != nil {
		return "", fmt.Errorf("--database-file: %w", err)
	}
	return line, nil
}

// readLine reads a file that holds one line.
func readLine(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // read only
	data, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return "", err
	}
	line := strings.TrimSpace(string(data))
	if line == "" || strings.ContainsAny(line, "\r\n") {
		return "", fmt.Errorf("%s does not hold exactly one line", path)
	}
	return line, nil
}
