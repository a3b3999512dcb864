// Runs one operation on the stack `test` of the TypeScript program in the current folder, and prints what the engine says.
// The Automation API is the language host: the one that the CLI starts is not to be had here.

import { createRequire } from "node:module";
import { LocalWorkspace, Stack } from "@pulumi/pulumi/automation/index.js";

const require = createRequire(`${process.cwd()}/`);
const workspace = await LocalWorkspace.create({ workDir: process.cwd(), program: async () => require("./index.js") });
const stack = await Stack.select("test", workspace);
const [operation] = process.argv.slice(2);

try {
    const result = await stack[operation]({ onOutput: (text) => process.stdout.write(text) });
    console.log(JSON.stringify(result.changeSummary ?? result.summary.resourceChanges));
} catch (error) {
    console.error(error.message);
    process.exitCode = 1;
}
