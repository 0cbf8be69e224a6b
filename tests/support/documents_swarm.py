"""The API documents' examples of services and containers: their JavaScript program and their curls.

Addresses, names of nodes, image names, ports and host publishing are adapted, nothing else.
"""

DEPLOY_SERVICE = """
const axios = require('axios');

const API_URL = '{url}/api';

async function deployService(name, image, cluster) {{
  const response = await axios.post(`${{API_URL}}/swarm/services`, {{
    name: name,
    image: image,
    replicas: 1,
    mode: 'replicated',
    constraints: [
      `node.labels.cluster==${{cluster}}`,
      'node.labels.nvidia==true'
    ],
    resources: {{ gpu: 1 }},
    mounts: [
      {{ source: '/mnt/s3-models', target: '/models' }},
      {{ source: '/mnt/s3-outputs', target: '/outputs' }}
    ]
  }});

  return response.data;
}}

// Deploy SDXL to vision cluster
deployService('vision-sdxl', '{image}', 'vision')
  .then(console.log)
  .catch(console.error);
"""

CURLS = """
curl {url}/api/nodes/
curl {url}/api/swarm/status
curl -X POST {url}/api/ssh/exec-node -H "Content-Type: application/json" -d '{{"node_id": "{node_id}", "command": "df -h"}}'
curl -X POST {url}/api/swarm/services -H "Content-Type: application/json" -d '{{"name": "test-service", "image": "{image}", "replicas": 1, "ports": [{{"target_port": 80, "published_port": 18090, "mode": "host"}}]}}'
curl -X POST "{url}/api/fleet/deploy" -H "Content-Type: application/json" -d '{{"node_id": "{node_id}", "image": "{image}", "name": "myapp", "port": 8080, "host_port": 18091, "gpus": true, "mounts": ["/mnt/s3-models:/models"]}}'
curl "{url}/api/fleet/logs/{node_id}/myapp?tail=100"
curl -X POST "{url}/api/fleet/exec/{node_id}" -H "Content-Type: application/json" -d '{{"command": "nvidia-smi"}}'
curl -X DELETE "{url}/api/fleet/deploy/{node_id}/myapp"
curl "{url}/api/swarm/services"
curl "{url}/api/swarm/services/{service}"
curl -X POST "{url}/api/swarm/services/{service}/scale?replicas=4"
"""  # noqa: E501
