"use strict";
// Before anything is drawn, so that nothing jumps when the rest arrives.
document.documentElement.classList.add("js");
if (navigator.maxTouchPoints > 0) document.documentElement.classList.add("touch");
