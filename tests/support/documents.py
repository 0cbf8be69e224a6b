"""The API documents' own Python programs, unchanged but for the address (and an end where they have none)."""

POLLING = """
import httpx
import asyncio

API_URL = "{url}/api"

async def generate_image(prompt: str):
    async with httpx.AsyncClient() as client:
        # Submit generation job
        resp = await client.post(f"{{API_URL}}/vision/generate", json={{
            "prompt": prompt,
            "width": 1024,
            "height": 1024,
            "steps": 20
        }})
        job = resp.json()
        job_id = job["job_id"]

        # Poll for completion
        while True:
            status = await client.get(f"{{API_URL}}/vision/jobs/{{job_id}}")
            data = status.json()

            if data["status"] == "completed":
                return data["result"]["image_url"]
            elif data["status"] == "failed":
                raise Exception(data.get("error", "Generation failed"))

            await asyncio.sleep(1)

# Usage
image_url = asyncio.run(generate_image("A beautiful sunset"))
print(f"Image: {url}{{image_url}}")
"""

SDK = '''
import requests
import io
from PIL import Image

BASE_URL = "{url}"

class FleetCommander:
    def __init__(self, base_url=BASE_URL):
        self.base_url = base_url
        self.session = requests.Session()

    def connect(self):
        """Test connection"""
        resp = self.session.get(f"{{self.base_url}}/api/fleet/connect")
        return resp.json()

    def generate_image(self, prompt, **kwargs):
        """Generate image and return PIL Image"""
        params = {{
            "prompt": prompt,
            "negative_prompt": kwargs.get("negative_prompt", "blurry, bad quality"),
            "width": kwargs.get("width", 1024),
            "height": kwargs.get("height", 1024),
            "steps": kwargs.get("steps", 20),
            "guidance_scale": kwargs.get("guidance_scale", 7.5),
            "seed": kwargs.get("seed"),
        }}
        resp = self.session.post(
            f"{{self.base_url}}/api/fleet/generate",
            json=params
        )
        resp.raise_for_status()
        return Image.open(io.BytesIO(resp.content))

    def queue_job(self, prompt, priority="normal", callback_url=None):
        """Queue a job for async processing"""
        resp = self.session.post(
            f"{{self.base_url}}/api/queue/jobs",
            json={{
                "job_type": "image_gen",
                "priority": priority,
                "payload": {{"prompt": prompt}},
                "callback_url": callback_url
            }}
        )
        return resp.json()

    def get_job(self, job_id):
        """Get job status"""
        resp = self.session.get(f"{{self.base_url}}/api/queue/jobs/{{job_id}}")
        return resp.json()

    def list_nodes(self):
        """List all cluster nodes"""
        resp = self.session.get(f"{{self.base_url}}/api/nodes")
        return resp.json()

    def get_gallery(self, limit=50):
        """Get generated images"""
        resp = self.session.get(f"{{self.base_url}}/api/vision/gallery?limit={{limit}}")
        return resp.json()


# Usage
fleet = FleetCommander()
print(fleet.connect())

# Generate image
image = fleet.generate_image("a cyberpunk city at night")
image.save("output.png")

# Or queue job with callback
job = fleet.queue_job("beautiful landscape", priority="high",
                       callback_url="https://myapp.com/webhook")
print(f"Job ID: {{job['job_id']}}")
print(fleet.get_job(job["job_id"])["status"], len(fleet.list_nodes()["nodes"]), len(fleet.get_gallery()["images"]))
'''

METRICS = """
import asyncio
import websockets
import json

async def monitor_metrics():
    uri = "{ws}/ws/metrics"
    async with websockets.connect(uri) as ws:
        while True:
            message = await ws.recv()
            data = json.loads(message)

            for node_id, metrics in data.get("nodes", {{}}).items():
                print(f"{{node_id}}: CPU={{metrics['cpu']:.1f}}% GPU={{metrics['gpu']:.1f}}%", flush=True)

asyncio.run(monitor_metrics())
"""
