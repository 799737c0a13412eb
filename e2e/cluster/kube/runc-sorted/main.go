// Command runc-sorted is runc, but mounts outer directories before inner ones.
//
// containerd mounts what its base specification names before what the Pod names. A Pod's volume at /tmp would cover a
// directory that the machine lends to every container below /tmp.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

func main() {
	if i := slices.Index(os.Args, "--bundle"); i >= 0 && i+1 < len(os.Args) && slices.Contains(os.Args, "create") {
		check(sortMounts(filepath.Join(os.Args[i+1], "config.json")))
	}
	runc, err := exec.LookPath("runc")
	check(err)
	check(syscall.Exec(runc, append([]string{"runc"}, os.Args[1:]...), os.Environ()))
}

func sortMounts(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var spec map[string]json.RawMessage
	if err := json.Unmarshal(text, &spec); err != nil {
		return err
	}
	var mounts []map[string]json.RawMessage
	if err := json.Unmarshal(spec["mounts"], &mounts); err != nil {
		return err
	}
	slices.SortStableFunc(mounts, func(a, b map[string]json.RawMessage) int { return depth(a) - depth(b) })
	if spec["mounts"], err = json.Marshal(mounts); err != nil {
		return err
	}
	if text, err = json.Marshal(spec); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

func depth(mount map[string]json.RawMessage) int {
	var destination string
	_ = json.Unmarshal(mount["destination"], &destination) // runc itself says so when there is none
	return strings.Count(filepath.Clean(destination), "/")
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "runc-sorted:", err)
		os.Exit(1)
	}
}
