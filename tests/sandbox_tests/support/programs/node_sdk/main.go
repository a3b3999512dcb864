// Writes the Node.js SDK of a package into a folder, given the schema of the package on standard input.
//
// `pulumi package gen-sdk` leaves this to the language host of Node.js, which is no public Go module; the generator that
// the host calls is one.
package main

import (
	"encoding/json"
	"log"
	"os"
	"path/filepath"

	"github.com/pulumi/pulumi/pkg/v3/codegen/nodejs"
	"github.com/pulumi/pulumi/pkg/v3/codegen/schema"
)

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	var spec schema.PackageSpec
	must(json.NewDecoder(os.Stdin).Decode(&spec))
	pkg, err := schema.ImportSpec(spec, nil, schema.NewNullLoader(), schema.ValidationOptions{})
	must(err)
	files, err := nodejs.GeneratePackage("pulumi", pkg, nil, nil, true, nil)
	must(err)
	for name, content := range files {
		path := filepath.Join(os.Args[1], name)
		must(os.MkdirAll(filepath.Dir(path), 0o755))
		must(os.WriteFile(path, content, 0o644))
	}
}
