// The configuration file as text: comments stay, and what is wrong is shown at its line.
import { ask } from './api.js';
import { health } from './shell.js';
import { h, say, toast } from './dom.js';

const main = document.querySelector('main');
const numbers = h('pre', { 'aria-hidden': 'true' });
const area = h('textarea', { spellcheck: 'false', autocapitalize: 'off', autocomplete: 'off', 'aria-label': 'Configuration file', disabled: true });
const faults = h('ul', { class: 'faults', role: 'alert' });
const note = h('p', { class: 'counts' });
const save = h('button', { type: 'button', disabled: true, onclick: () => store() }, 'Save');
const undo = h('button', { type: 'button', class: 'quiet', disabled: true, onclick: () => { area.value = saved; changed([]); } }, 'Undo changes');
main.append(h('div', { class: 'bar' }, h('h1', {}, 'Configuration'), note, h('div', { class: 'tools' }, undo, save)), faults, h('div', { class: 'editor' }, numbers, area));

let saved = '', wrong = [];

function changed(problems = wrong) {
  wrong = problems;
  const lines = area.value.split('\n').length;
  const bad = new Set(wrong.map(({ line }) => line));
  const parts = [];
  for (let line = 1; line <= lines; line += 1) parts.push(bad.has(line) ? h('b', {}, String(line)) : `${line}\n`);
  numbers.replaceChildren(...parts);
  numbers.scrollTop = area.scrollTop;
  const differs = area.value !== saved;
  save.disabled = undo.disabled = !differs;
  say(note, differs ? 'Not saved' : '');
}

function go({ line, column }) {
  const lines = area.value.split('\n');
  const at = lines.slice(0, line - 1).reduce((sum, one) => sum + one.length + 1, 0) + Math.max(0, column - 1);
  area.focus();
  area.setSelectionRange(at, Math.max(at, at + (lines[line - 1]?.length ?? 0) - column + 1));
  area.scrollTop = Math.max(0, (line - 4) * parseFloat(getComputedStyle(area).lineHeight));
}

/** Lines of `file:line:column: text`. */
function parse(text) {
  return text.split('\n').filter(Boolean).map((line) => {
    const [, row, column, message] = /^.*?:(\d+):(\d+): (.*)$/.exec(line) ?? [null, 0, 0, line];
    return { line: Number(row), column: Number(column), message };
  });
}

function showFaults(problems) {
  faults.replaceChildren(...problems.map((problem) => h('li', {}, h('button', { type: 'button', onclick: () => problem.line && go(problem) },
    problem.line ? `Line ${problem.line}: ${problem.message}` : problem.message))));
  changed(problems);
}

async function store() {
  save.disabled = true;
  const text = area.value;
  try {
    await ask('api/config', { method: 'POST', body: text });
    saved = text;
    showFaults([]);
    toast('Saved, and in force.');
    health();
  } catch (error) {
    const problems = parse(error.message);
    showFaults(problems);
    if (problems[0]?.line) go(problems[0]);
  }
}

area.addEventListener('input', () => changed());
area.addEventListener('scroll', () => { numbers.scrollTop = area.scrollTop; });
area.addEventListener('keydown', (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key === 's') {
    event.preventDefault();
    if (!save.disabled) store();
  }
});
addEventListener('beforeunload', (event) => { if (area.value !== saved) event.preventDefault(); });

try {
  saved = await (await ask('api/config')).text();
  area.value = saved;
  area.disabled = false;
  changed([]);
} catch (error) {
  showFaults([{ line: 0, message: error.status === 410 ? 'Patchbay runs without a configuration file.' : error.message || 'The file cannot be read.' }]);
}
