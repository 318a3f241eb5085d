package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/fairlead-net/fairlead/config"
)

// editFile replaces the text of a configuration. Whatever happens meanwhile, the file has the old text or the new one, with the mode
// and the owner that it had.
func editFile(path string, change func(data []byte) ([]byte, error)) error {
	data, err := config.Read(path)
	if err != nil {
		return err
	}
	text, err := change(data)
	if err != nil {
		return err
	}
	// A link stays a link.
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return err
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return advise(fmt.Errorf("%s is no ordinary file", path), "--print prints the lines")
	}
	tmp, err := writeBeside(path, text, info)
	if err == nil {
		if err = os.Rename(tmp, path); err != nil {
			err = errors.Join(err, os.Remove(tmp))
		}
	}
	if err != nil {
		hint := "its directory has to be writable, and the owner stays as it is; --print prints the lines"
		if errors.Is(err, fs.ErrPermission) {
			hint = "`sudo` may help; --print prints the lines"
		}
		return advise(fmt.Errorf("%s stays as it is: %w", path, err), hint)
	}
	return syncDir(filepath.Dir(path))
}

// writeBeside makes a file in the directory of path, with everything but its name as path has it. After an error there is none.
func writeBeside(path string, text []byte, like fs.FileInfo) (string, error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return "", err
	}
	err = func() error {
		if err := keepOwner(tmp, like); err != nil {
			return err
		}
		if err := tmp.Chmod(like.Mode().Perm()); err != nil { // after the owner: chown(2) takes bits away
			return err
		}
		if _, err := tmp.Write(text); err != nil {
			return err
		}
		return tmp.Sync()
	}()
	if err = errors.Join(err, tmp.Close()); err != nil {
		return "", errors.Join(err, os.Remove(tmp.Name()))
	}
	return tmp.Name(), nil
}
