// What tools make of an object's status, asked of the code that those tools run.
//
// Objects come as JSON, one a line; for each one a line goes back:
//
//	{"kstatus": READING, "helm": READING, "argocd": READING}    READING: {"status": ..., "message": ...}
//
// kstatus is the library of sigs.k8s.io/cli-utils.  helm is what `helm install --wait` waits with since Helm 4: the
// status readers of github.com/fluxcd/cli-utils, which Flux uses too.  argocd is the health script of the ConfigMap
// argocd-cm in the file that is the only argument, run as Argo CD runs it.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"

	"github.com/fluxcd/cli-utils/pkg/kstatus/polling/statusreaders"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

type reading struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

type readings struct {
	Kstatus reading `json:"kstatus"`
	Helm    reading `json:"helm"`
	ArgoCD  reading `json:"argocd"`
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: status-readers ARGOCD_CONFIG_MAP.json < OBJECTS.jsonl")
	}
	health, err := newHealthScripts(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	in, out := bufio.NewScanner(os.Stdin), json.NewEncoder(os.Stdout)
	in.Buffer(nil, 4<<20) // an object may have 3 MiB
	for in.Scan() {
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(in.Bytes()); err != nil {
			log.Fatal(err)
		}
		result, err := readAll(object, health)
		if err != nil {
			log.Fatalf("%s %s: %v", object.GetKind(), object.GetName(), err)
		}
		if err := out.Encode(result); err != nil {
			log.Fatal(err)
		}
	}
	if err := in.Err(); err != nil {
		log.Fatal(err)
	}
}

func readAll(object *unstructured.Unstructured, health *healthScripts) (*readings, error) {
	computed, err := status.Compute(object)
	if err != nil {
		return nil, fmt.Errorf("kstatus: %w", err)
	}
	// Helm's `statusWaiter.Wait` reads with these readers and no others.  For a kind that is not built in, they ask
	// neither the mapper nor the cluster.
	reader := statusreaders.NewStatusReader(meta.MultiRESTMapper{})
	waited, err := reader.ReadStatusForObject(context.Background(), nil, object)
	if err != nil {
		return nil, fmt.Errorf("helm: %w", err)
	}
	if waited.Error != nil {
		return nil, fmt.Errorf("helm: %w", waited.Error)
	}
	argo, err := health.read(object)
	if err != nil {
		return nil, fmt.Errorf("argocd: %w", err)
	}
	return &readings{
		Kstatus: reading{computed.Status.String(), computed.Message},
		Helm:    reading{waited.Status.String(), waited.Message},
		ArgoCD:  argo,
	}, nil
}
