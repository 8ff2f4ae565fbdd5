"""A web server that gives out the files of a folder over HTTPS, to one user, and writes down what it was asked for.
Usage: folder.py FOLDER CERTIFICATE KEY USER:PASSWORD LOG [FAILURES]; says on which port it listens.
FAILURES: so many requests are answered with 503 first."""
import base64
import functools
import http.server
import ssl
import sys

folder, certificate, key, account, log = sys.argv[1:6]
failures = [int(sys.argv[6]) if len(sys.argv) > 6 else 0]
wanted = "Basic " + base64.b64encode(account.encode()).decode()


class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.headers.get("Authorization") != wanted:
            return self.send_error(401)
        if failures[0] > 0:
            failures[0] -= 1
            return self.send_error(503)
        super().do_GET()

    def log_message(self, form, *words):
        with open(log, "a") as file:
            file.write(form % words + "\n")


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
