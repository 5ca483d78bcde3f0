// The real product for a browser: one binary, one folder, on a free port.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, openSync, readFileSync, existsSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const BINARY = resolve(process.env.STACKPRO_BINARY ?? "target/debug/stackpro");

export async function start() {
  const folder = mkdtempSync(join(tmpdir(), "stackpro-browser-"));
  const data = join(folder, "data");
  const log = openSync(join(folder, "serve.log"), "a");
  const env = { PATH: process.env.PATH, HOME: folder, STACKPRO_SIGNUPS_PER_ADDRESS_PER_HOUR: "1000" };
  const child = spawn(BINARY, ["serve", "--listen", "127.0.0.1:0", "--data", data], { cwd: folder, env, stdio: ["ignore", log, log] });
  const noted = join(data, "serve.json");
  for (let tries = 0; !existsSync(noted); tries++) {
    if (child.exitCode !== null || tries > 400) throw new Error(`the product does not start:\n${tail(folder)}`);
    await new Promise((done) => setTimeout(done, 50));
  }
  const info = JSON.parse(readFileSync(noted, "utf8"));
  const stop = () => {
    child.kill("SIGKILL");
    spawnSync(BINARY, ["stop", "--data", data], { env, cwd: folder });
    rmSync(folder, { recursive: true, force: true });
  };
  return { ...info, folder, stop, tail: () => tail(folder) };
}

function tail(folder) {
  return readFileSync(join(folder, "serve.log"), "utf8").split("\n").slice(-40).join("\n");
}
